"""What small programs print is what they print."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from sandbox_scripts.drivers.research.outputs import decoded, formatted, printed
from sandbox_scripts.drivers.research.simple import Simple
from sandbox_scripts.drivers.research.values import DOWNLOADED, TRUSTED, UNKNOWN

SAME = [
    (("echo", "a", "b"), ""),
    (("echo", "-n", "a"), ""),
    (("echo", "-e", "a\\tb\\x41"), ""),
    (("echo", "-ne", "\\0162m"), ""),
    (("echo", "a\\tb"), ""),
    (("printf", "%s-%s\\n", "a", "b", "c", "d"), ""),
    (("printf", "\\x72\\155"), ""),
    (("printf", "%b", "\\x72"), ""),
    (("printf", "%s", "a\\n"), ""),
    (("printf", "%d%%", "7"), ""),
    (("printf", "%x", "255"), ""),
    (("printf", "plain"), ""),
    (("base64", "-d"), "cm0gLXJmIC8="),
    (("base64", "--decode"), "cm0gLXJm\nIC8=\n"),
    (("base32", "-d"), "OJWSALLSMYQC6==="),
    (("xxd", "-r", "-p"), "726d 202d7266"),
    (("rev",), "abc\ndef\n"),
    (("tr", "a-z", "A-Z"), "hello"),
    (("tr", "-d", "x"), "sxudxo"),
    (("tr", "[:lower:]", "[:upper:]"), "abc"),
    (("tr", "abc", "x"), "aabbcc"),
    (("sed", "s/X//g"), "sXuXdo\n"),
    (("sed", "s/X/y/"), "XX\n"),
    (("cat",), "as it is\n"),
    (("tee",), "as it is\n"),
    (("basename", "/usr/bin/rm"), ""),
]


@pytest.mark.parametrize(("words", "stdin"), SAME, ids=[" ".join(words) for words, _ in SAME])
def test_a_program_prints_what_is_computed(words: tuple[str, ...], stdin: str) -> None:
    """Bash and the programs themselves decide."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"no {words[0]} here")
    script = '"$@"'
    told = subprocess.run(["bash", "-c", script, "_", *words], input=stdin, capture_output=True, text=True, check=True)
    assert printed(Simple(words, stdin, "/home/user")) == told.stdout


@pytest.mark.parametrize("words", [("date",), ("jq", "."), ("awk", "{print}"), ("openssl", "enc"), ("sed", "s/.*/x/")])
def test_what_cannot_be_computed_is_marked(words: tuple[str, ...]) -> None:
    """By what it was made of: what came from the network stays so."""
    assert printed(Simple(words, "text", "/")) == UNKNOWN
    assert printed(Simple(words, f"a{DOWNLOADED}b{UNKNOWN}", "/")) == DOWNLOADED
    assert printed(Simple(words, f"a{TRUSTED}b", "/")) == TRUSTED


def test_what_is_not_encoded_is_not_decoded() -> None:
    """Nor is what is not known."""
    assert decoded("zz", "hex") is None
    assert decoded("é", "base64") is None
    assert decoded(DOWNLOADED, "base64") == DOWNLOADED


def test_a_format_without_directives_is_printed_once() -> None:
    """However many arguments there are, and none are needed."""
    assert formatted(("x", "a", "b")) == "x"
    assert formatted(()) == ""
    assert formatted(("%s",)) == ""
