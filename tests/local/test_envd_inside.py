"""envd's parts by themselves: frames, files and processes, as they run inside; and how little they are trusted."""

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.e2b.envd import OPERATIONS, QUICK, Envd
from local.e2b.envd_client import EnvdClient, EnvdError
from local.e2b.envd_files import Files
from local.e2b.envd_process import describe
from local.e2b.envd_wire import DATA, HEADER, JSON, MAX_FRAME_BYTES, Connection, WireError, pack, pack_json
from local.e2b.sandbox import MOVES, State


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    """A connection and the raw other end of it."""
    ours, theirs = socket.socketpair()
    yield Connection(ours), theirs
    ours.close()
    theirs.close()


def test_frames_survive_any_cut(pair: tuple[Connection, socket.socket]) -> None:
    """A frame that arrives byte by byte is one frame, and the next begins where it ends."""
    connection, peer = pair
    for byte in pack(DATA, b"payload") + pack_json({"a": 1}):
        peer.sendall(bytes([byte]))
    assert connection.receive() == (DATA, b"payload")
    assert connection.receive_json() == {"a": 1}


@pytest.mark.parametrize(
    "sent", [b"", b"\x00\x00", HEADER.pack(JSON, 10) + b"short", pack(JSON, b"[1]"), pack(DATA, b"x")]
)
def test_broken_frames_are_an_error(pair: tuple[Connection, socket.socket], sent: bytes) -> None:
    """The end in the middle of a frame, and what is no JSON object, raise."""
    connection, peer = pair
    peer.sendall(sent)
    peer.shutdown(socket.SHUT_WR)
    with pytest.raises(WireError):
        connection.receive_json()


def test_a_giant_frame_is_refused_unread(pair: tuple[Connection, socket.socket]) -> None:
    """Its length alone is reason enough: nothing is held for it."""
    connection, peer = pair
    peer.sendall(HEADER.pack(DATA, MAX_FRAME_BYTES + 1))
    with pytest.raises(WireError, match="too large"):
        connection.receive()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "unavailable"),
        (pack_json({})[:3], "unavailable"),
        (pack(JSON, b"[]"), "internal"),
        (pack(JSON, b"\xff{"), "internal"),
        (pack(DATA, b"{}"), "internal"),
        (HEADER.pack(JSON, MAX_FRAME_BYTES + 1), "internal"),
        (pack_json({"error": "not_found", "message": "no"}), "not_found"),
    ],
)
async def test_the_server_survives_whatever_the_inside_says(tmp_path: Path, answer: bytes, code: str) -> None:
    """A sandbox can answer nonsense; each kind of it is one error of that call."""

    async def liar(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(liar, str(tmp_path / "s"))
    with pytest.raises(EnvdError) as told:
        await EnvdClient(tmp_path / "s").call("stat", path="/")
    assert told.value.code == code
    server.close()


async def test_a_gone_envd_is_unavailable(tmp_path: Path) -> None:
    """No socket, no sandbox."""
    with pytest.raises(EnvdError) as told:
        await EnvdClient(tmp_path / "nothing").call("stat", path="/")
    assert told.value.code == "unavailable"


def test_paths_start_at_home() -> None:
    """Relative paths, a tilde and dots mean what a shell in the home directory would make of them."""
    files = Files("/home/user", "")
    assert files.resolve("a/../b") == "/home/user/b"
    assert files.resolve("~/x") == "/home/user/x"
    assert files.resolve("/etc//passwd") == "/etc/passwd"
    assert files.resolve("../../..") == "/"
    with pytest.raises(ValueError, match="NUL"):
        files.resolve("a\0b")


def test_without_isolation_the_sandboxs_places_are_below_its_directory(tmp_path: Path) -> None:
    """Its own directories are mapped there and back, whole names only; other paths are the machine's."""
    files = Files(f"{tmp_path}/home/user", str(tmp_path))
    assert files.resolve("/home/user/x") == f"{tmp_path}/home/user/x"
    assert files.resolve("x") == f"{tmp_path}/home/user/x"
    assert files.resolve("/apple") == "/apple"
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "f").write_text("1")
    assert files.stat("/app/f")["path"] == "/app/f"


def test_links_are_described_and_removed_as_links(tmp_path: Path) -> None:
    """A link tells its target and its target's type; a broken one is a link; removing it leaves the target."""
    files = Files(str(tmp_path), "")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "inner").write_text("1")
    (tmp_path / "link").symlink_to("dir")
    (tmp_path / "broken").symlink_to("nowhere")
    told = {e["name"]: (e["type"], e["symlink_target"]) for e in files.list_dir(".", 5)}
    assert told == {
        "dir": ("directory", None), "inner": ("file", None),
        "link": ("directory", "dir"), "broken": ("symlink", "nowhere"),
    }  # fmt: skip
    files.remove("link")
    assert (tmp_path / "dir" / "inner").exists()
    files.remove("dir")
    assert not (tmp_path / "dir").exists()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, {"exit_code": 0, "exited": True, "status": "exit status 0", "error": None}),
        (3 << 8, {"exit_code": 3, "exited": True, "status": "exit status 3", "error": "exit status 3"}),
        (
            int(signal.SIGKILL),
            {"exit_code": -1, "exited": False, "status": "signal: killed", "error": "signal: killed"},
        ),
    ],
)
def test_exit_statuses_are_told_in_gos_words(status: int, expected: dict[str, Any]) -> None:
    """As E2B's envd, which is written in Go, tells them."""
    assert describe(status) == expected


def test_every_quick_operation_is_one() -> None:
    """What is done without a thread of its own exists, and does not wait for anything."""
    assert set(OPERATIONS) > QUICK
    assert not QUICK & {"start", "connect", "watch", "tunnel", "send_input"}


def test_an_unknown_operation_is_answered(pair: tuple[Connection, socket.socket]) -> None:
    """A request that is not understood is told, and the connection ends."""
    connection, peer = pair
    peer.sendall(pack_json({"op": "explode"}))
    thread = threading.Thread(target=Envd().answer, args=(connection,))
    thread.start()
    assert Connection(peer).receive_json()["error"] == "internal"
    thread.join(10)


def test_the_end_is_final() -> None:
    """Every state is in the table, everything can end, and nothing follows the end."""
    assert set(MOVES) == set(State)
    assert MOVES[State.ENDED] == set()
    assert all(State.ENDED in MOVES[state] for state in State if state is not State.ENDED)


def test_the_inside_imports_nothing_but_the_standard_library() -> None:
    """envd starts with -I -S in a place where nothing else is; its modules name only each other."""
    modules = Path(__file__).parents[2] / "local" / "e2b"
    for path in modules.glob("envd*.py"):
        if path.stem in {"envd_client", "envd_rpc", "envd_files_rpc", "envd_http"}:
            continue
        for line in path.read_text().splitlines():
            if line.startswith(("from local", "import local")):
                assert line.split()[1].startswith("local.e2b.envd_"), (path, line)
    assert (modules / "envd.py").is_file()
