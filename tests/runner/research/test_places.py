"""Which paths are roots, homes, devices, ours: also through globs, dots and what is not known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_scripts.drivers.research import places
from sandbox_scripts.drivers.research.scope import HOME
from sandbox_scripts.drivers.research.values import UNKNOWN

ROOTS = (
    *("/", "//", "/.", "/..", "/*", "/bin", "/usr", "/usr/*", "/etc/", "/etc/.", "/usr/../etc", "/home", "/home/*"),
    *("/home/user", "/home/other", "/root", "/root/*", ".", "./", "./*", "*", "..", "../*", "../..", "/home/user/*"),
    *(
        "/e*",
        "/et?",
        "/[e]tc",
        "/u*/b*",
        f"/{UNKNOWN}",
        f"/home/{UNKNOWN}",
        "/var/log",
        "/tmp",
        "/*/*",
        "/.*",
        "~/../user",
    ),
)
NOT_ROOTS = (
    *("build", "./build", "build/*", "/tmp/*", "/tmp/x", "/home/user/project", "/home/user/project/*", "*.log"),
    *("/srv/app/data", "/opt/tool", "/usr/local/share/x", UNKNOWN, f"{UNKNOWN}/x", f"/tmp/{UNKNOWN}", ".cache", ".git"),
)


@pytest.mark.parametrize("path", [path for path in ROOTS if not path.startswith("~")])
def test_a_root_is_one_however_it_is_written(path: str) -> None:
    """Standing at home."""
    assert places.is_root(path, HOME)


@pytest.mark.parametrize("path", NOT_ROOTS)
def test_what_is_below_is_no_root(path: str) -> None:
    """A folder of one's own may be deleted, whatever is in it."""
    assert not places.is_root(path, HOME)


@pytest.mark.parametrize(
    ("path", "standing", "expected"),
    [
        ("*", "/", True),
        (".", "/", True),
        ("etc", "/", True),
        ("x", "/", False),
        ("*", "/usr", True),
        ("*", "/home/user/project", False),
        ("..", "/home/user/project", True),
        ("../..", "/home/user/project", True),
        ("..", "/home/user/project/build", False),
        ("*", "/tmp", False),
        ("*", f"{HOME}/{UNKNOWN}", False),
        ("..", f"{HOME}/{UNKNOWN}/x", False),
    ],
)
def test_a_relative_path_is_seen_from_where_we_stand(path: str, standing: str, expected: bool) -> None:
    """`*` is everything here."""
    assert places.is_root(path, standing) is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/dev/sda", True),
        ("/dev/../dev/sda", True),
        ("/dev/mem", True),
        ("/proc/sys/x", True),
        ("/sys/x", True),
        ("/dev/null", False),
        ("/dev/stderr", False),
        ("/dev/fd/3", False),
        ("/dev/shm/x", False),
        ("/dev/pts/0", False),
        ("/tmp/dev/sda", False),
        ("dev/sda", False),
    ],
)
def test_devices_are_what_is_not_harmless_below_dev(path: str, expected: bool) -> None:
    """And the kernel's own files."""
    assert places.is_device(path, HOME) is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/proc/self/environ", True),
        ("/proc/1/environ", True),
        ("/proc/*/environ", True),
        ("/proc/self/task/1/environ", True),
        (f"/proc/{UNKNOWN}/environ", True),
        ("/proc/self/../1/environ", True),
        ("/proc/1/mem", True),
        (".sandstream", True),
        (".sandstream/job.json", True),
        (".sand*/job.json", True),
        ("/home/user/.sandstream/a/b", True),
        ("/home/*/.sandstream/job.json", True),
        ("/proc/cpuinfo", False),
        ("/proc/self/status", False),
        ("/proc/self/fd/1", False),
        (".cache/x", False),
        ("*", False),
        ("*/environ", False),
        ("sandstream/x", False),
    ],
)
def test_credentials_are_in_two_places(path: str, expected: bool) -> None:
    """In the environment of processes, and in the job's folder."""
    assert places.is_credential(path, HOME) is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/dev/tcp/10.0.0.1/80", True),
        ("//dev//tcp//10.0.0.1/80", True),
        ("/dev/udp/a/53", True),
        ("/dev/tcp", False),
        ("x/dev/tcp/a/80", False),
    ],
)
def test_bash_opens_connections_by_path(path: str, expected: bool) -> None:
    """Such a path is no file."""
    assert places.is_network(path) is expected


@given(
    st.sampled_from(["/", "/etc", "/home/user", "/usr"]),
    st.lists(st.sampled_from([".", "x/..", "", "./."]), max_size=6),
)
def test_detours_lead_to_the_same_place(root: str, detours: list[str]) -> None:
    """Dots and slashes hide nothing."""
    assert places.is_root("/".join([root, *detours]), HOME)
