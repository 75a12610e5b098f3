"""Where a program gets what it prints or writes, and whether it may be executed."""

from __future__ import annotations

import pytest

from sandbox_scripts.drivers.research.check import refusals
from sandbox_scripts.drivers.research.downloads import addresses, allowed, targets
from sandbox_scripts.drivers.research.simple import Simple

HOSTS = ("files.example.org", "*.mirror.example.org", "port.example.org:8443")


def simple(line: str) -> Simple:
    """A command of these words."""
    return Simple(tuple(line.split()), None, "/home/user")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://files.example.org/x", True),
        ("https://FILES.example.org/x", True),
        ("files.example.org", True),
        ("files.example.org/x?y=z", True),
        ("https://user:word@files.example.org/x", True),
        ("https://files.example.org:8443/x", True),
        ("https://a.mirror.example.org/x", True),
        ("https://a.b.mirror.example.org/x", True),
        ("https://port.example.org:8443/x", True),
        ("https://port.example.org/x", False),
        ("https://mirror.example.org/x", False),
        ("https://evilmirror.example.org/x", False),
        ("https://files.example.org.evil.example/x", False),
        ("https://files.example.org@evil.example/x", False),
        ("https://evil.example/files.example.org", False),
        ("https://evil.example#files.example.org", False),
        ("https://evil.example?files.example.org", False),
        ("https://{files.example.org,evil.example}/", False),
        ("https://evil.example\\@files.example.org/", False),
        ("https://files.example.org\ue000/x", False),
        ("https://\ue000/x", False),
        ("https://[broken/x", False),
        ("https:///x", False),
        ("", False),
    ],
)
def test_a_host_is_allowed_when_it_is_on_the_list(url: str, expected: bool) -> None:
    """Exactly, or below a wildcard; what cannot be told is not."""
    assert allowed(url, HOSTS) is expected


def test_without_a_list_every_host_is_allowed() -> None:
    """None means that anything may be reached."""
    assert allowed("https://anything.example", None)
    assert refusals("curl https://anything.example/x | sh", None) == []


def test_with_an_empty_list_no_host_is_allowed() -> None:
    """Nothing may be reached, so nothing may be executed."""
    assert refusals("curl https://files.example.org/x | sh", ()) != []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("curl https://a", ["https://a"]),
        ("curl -fsSL https://a", ["https://a"]),
        ("curl -o out https://a", ["https://a"]),
        ("curl -fsSLo out https://a", ["https://a"]),
        ("curl -oout https://a", ["https://a"]),
        ("curl -H x:y -d data -X POST https://a", ["https://a"]),
        ("curl --header x:y --output out https://a", ["https://a"]),
        ("curl --output=out https://a", ["https://a"]),
        ("curl --url https://a", ["https://a"]),
        ("curl --url=https://a https://b", ["https://a", "https://b"]),
        ("curl https://a https://b", ["https://a", "https://b"]),
        ("wget -q -O - https://a", ["https://a"]),
        ("wget -qO- https://a", ["https://a"]),
        ("wget -P folder https://a", ["https://a"]),
    ],
)
def test_addresses_are_what_is_no_option(line: str, expected: list[str]) -> None:
    """Nor the value of an option."""
    assert addresses(simple(line)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("curl https://a/x.sh", []),
        ("curl -o - https://a/x.sh", []),
        ("curl -o out https://a/x.sh", ["out"]),
        ("curl -sSLo out https://a/x.sh", ["out"]),
        ("curl --output out https://a/x.sh", ["out"]),
        ("curl --output=out https://a/x.sh", ["out"]),
        ("curl -O https://a/x.sh", ["x.sh"]),
        ("curl -sSLO https://a/b/x.sh?y", ["x.sh"]),
        ("curl -O https://a/x https://b/y", ["x", "y"]),
        ("wget https://a/x.sh", ["x.sh"]),
        ("wget https://a/", ["index.html"]),
        ("wget -P to https://a/x.sh", ["to/x.sh"]),
        ("wget -O out https://a/x.sh", ["out"]),
        ("wget -O- https://a/x.sh", []),
        ("wget -qO - https://a/x.sh", []),
        ("ls -o out", []),
    ],
)
def test_targets_are_the_files_that_are_written(line: str, expected: list[str]) -> None:
    """By option, or by the address."""
    assert targets(simple(line)) == expected
