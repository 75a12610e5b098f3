"""The driver's parts one by one: stdin, the user's messages, files, custom tools."""

from __future__ import annotations

import base64
import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sandbox_scripts.drivers.claude import files
from sandbox_scripts.drivers.claude.custom import CustomTools
from sandbox_scripts.drivers.claude.input import Inbox, message_uuid, prompt
from sandbox_scripts.drivers.claude.memo import Memo
from sandbox_scripts.drivers.claude.record import Record
from sandbox_scripts.drivers.claude.stdin import FEED, Stdin
from sandbox_scripts.errors import Unavailable
from sandbox_scripts.log import Functions
from sandbox_scripts.spool import Spool
from tests.runner.conftest import until
from tests.runner.log_server import Fault, slow
from tests.runner.session_server import SessionLog

PIXEL = base64.b64encode(b"\x89PNG").decode()


def fed(directory: Path) -> subprocess.Popen[bytes]:
    """`cat` behind the feeder."""
    command = FEED.format(directory=shlex.quote(str(directory)), command="cat")
    return subprocess.Popen(["/bin/bash", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def test_stdin_hands_over_each_message_once_and_in_order(tmp_path: Path) -> None:
    """Whatever is rung for again; `end` closes it."""
    stdin = Stdin(str(tmp_path))
    process = fed(tmp_path)
    large = json.dumps({"text": "x" * 300_000})
    for message in ('{"a":1}', large, '{"b":2}'):
        stdin.send(message + "\n")
        stdin.again()
    until(lambda: not list((tmp_path / "in").iterdir()) or (process.stdout and process.stdout.readable()))
    stdin.end()
    assert process.communicate(timeout=20)[0].decode() == f'{{"a":1}}\n{large}\n{{"b":2}}\n'
    assert [list(message) for message in stdin.sent()] == [["a"], ["text"], ["b"]]
    stdin.close()


def test_stdin_survives_its_writer(tmp_path: Path) -> None:
    """A writer that died before it rang: the next one rings, goes on counting, and nothing is torn."""
    first = Stdin(str(tmp_path))
    process = fed(tmp_path)
    first.send('{"n":1}\n')
    until(lambda: list((tmp_path / "fed").iterdir()))
    first.close()
    (tmp_path / "in/000002").write_text('{"n":2}\n')
    (tmp_path / "draft").write_text('{"n":')
    second = Stdin(str(tmp_path))
    second.again()
    second.send('{"n":3}\n')
    second.end()
    assert process.communicate(timeout=20)[0] == b'{"n":1}\n{"n":2}\n{"n":3}\n'
    second.close()


def test_a_record_keeps_each_id_once(tmp_path: Path) -> None:
    """Also when another process reads the same spool; and it knows what the log waits for."""
    spool = Spool(str(tmp_path / "spool"))
    record = Record(spool, "0123456789")
    record.add("agent.message", {"id": "sevt_1"})
    record.ask(["sevt_a", "sevt_b"])
    again = Record(Spool(str(tmp_path / "spool")), "0123456789")
    again.add("agent.message", {"id": "sevt_1"})
    assert again.asking() == ["sevt_a", "sevt_b"]
    again.running()
    assert again.asking() == []
    assert [event["data"]["id"] for event in Spool(str(tmp_path / "spool")).events()] == [
        "sevt_1", "sevt_01234567_status_idle_r1", "sevt_01234567_status_running_r1",
    ]  # fmt: skip


def test_a_memo_comes_back_whole(tmp_path: Path) -> None:
    """What one runner noted, the next one reads."""
    memo = Memo(str(tmp_path / "memo"))
    memo.asked["x"] = 1.5
    memo.begin_turn()
    memo.end_launch(["succeeded", {}, None], 7, 2, False)
    again = Memo(str(tmp_path / "memo"))
    assert (again.launch, again.cost_microusd, again.turns, again.asked) == (2, 7, 2, {"x": 1.5})
    assert again.last == ["succeeded", {}, None]


def test_the_inbox_takes_each_event_once(session_log: SessionLog, functions: Functions) -> None:
    """More than a page too, in order."""
    seqs = [session_log.message(str(index)) for index in range(230)]
    inbox = Inbox(functions, 0)
    assert [event["seq"] for event in inbox.take()] == seqs
    assert inbox.take() == []
    later = session_log.message("later")
    assert [event["seq"] for event in inbox.take()] == [later]
    assert session_log.taken_seq == later


def test_large_messages_come_in_pages_of_few(session_log: SessionLog, functions: Functions) -> None:
    """A page that is not full is not the last one: it may have ended for its bytes."""
    seqs = [session_log.message("x" * 600_000) for _ in range(4)]
    assert [event["seq"] for event in Inbox(functions, 0).take()] == seqs
    assert session_log.taken_seq == seqs[-1]


def test_what_was_taken_before_the_log_went_away_comes_again(session_log: SessionLog, functions: Functions) -> None:
    """The second page fails: the first is not lost with it."""
    seqs = [session_log.message("x" * 600_000) for _ in range(2)]
    inbox = Inbox(functions, 0)
    session_log.fault("take_input_v1", slow(0), Fault(503))
    with pytest.raises(Unavailable):
        inbox.take()
    assert [event["seq"] for event in inbox.take()] == seqs


BLOCKS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"type": "text", "text": "hi"}, {"type": "text", "text": "hi"}),
    (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}, "extra": 1},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
    ),
    (
        {"type": "image", "source": {"type": "file", "file_id": "image/png"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
    ),
    (
        {"type": "document", "source": {"type": "file", "file_id": "application/pdf"}, "context": "c"},
        {"type": "document", "title": "t", "context": "c",
         "source": {"type": "base64", "media_type": "application/pdf", "data": PIXEL}},
    ),
    (
        {"type": "document", "source": {"type": "file", "file_id": "text/csv"}, "title": "mine"},
        {"type": "document", "title": "mine",
         "source": {"type": "text", "media_type": "text/plain", "data": "\ufffdPNG"}},
    ),
    ({"type": "document", "source": {"type": "file", "file_id": "gone"}},
     {"type": "text", "text": "(an attachment that could not be read)"}),
]  # fmt: skip


@pytest.mark.parametrize(("block", "made"), BLOCKS)
def test_a_block_becomes_what_claude_reads(
    session_log: SessionLog, functions: Functions, block: dict[str, Any], made: dict[str, Any]
) -> None:
    """Text, images, PDFs and text documents; a stored attachment as what it is."""
    for kind in ("image/png", "application/pdf", "text/csv"):
        session_log.attachments[kind] = {"media_type": kind, "data": PIXEL, "title": "t"}
    line = prompt({"seq": 7, "data": {"content": [block]}}, "session", Inbox(functions, 0))
    assert line["message"]["content"] == [made]
    assert line["uuid"] == message_uuid("session", 7)


def test_files_go_out_and_come_back(session_log: SessionLog, functions: Functions, tmp_path: Path) -> None:
    """With their modes, links and empty directories; what a package manager makes again stays behind."""
    tree = tmp_path / "tree"
    (tree / "empty").mkdir(parents=True)
    (tree / "node_modules").mkdir()
    (tree / "node_modules/big.js").write_text("x")
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "link").symlink_to("run.sh")
    os.mkfifo(tree / "pipe")
    files.save(functions, str(tree))
    back = tmp_path / "back"
    kind, told = files.bring_back(functions, str(back))
    assert (kind, told["files"]) == ("sandbox.files_restored", 3)
    assert sorted(path.name for path in back.iterdir()) == ["empty", "link", "run.sh"]
    assert (back / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (back / "link").readlink() == Path("run.sh")


def test_files_that_were_never_saved_are_lost(functions: Functions, tmp_path: Path) -> None:
    """And that is told; there is nothing that saving would destroy."""
    kind, told = files.bring_back(functions, str(tmp_path))
    assert (kind, told) == ("sandbox.files_lost", {"reason": files.NOTHING_SAVED})
    assert not files.left_behind(kind, told)


@pytest.mark.parametrize("damage", ["no tar", "cut off", "overwritten", "no base64", "empty"])
def test_an_archive_that_is_damaged_is_lost(
    session_log: SessionLog, functions: Functions, tmp_path: Path, damage: str
) -> None:
    """It does not end the run, and is not to be overwritten."""
    (tmp_path / "noise").write_bytes(os.urandom(200_000))
    whole = files.pack(str(tmp_path)).archive
    middle = len(whole) // 2
    damaged = {
        "no tar": b"no tar",
        "cut off": whole[:middle],
        "overwritten": whole[:middle] + b"\xff" * 5000 + whole[middle + 5000 :],
        "empty": b"",
    }
    archive = base64.b64encode(damaged[damage]).decode() if damage in damaged else "="
    session_log.files = {"archive": archive, "files": 1, "bytes": 1, "saved_at": "x"}
    kind, told = files.bring_back(functions, str(tmp_path / "back"))
    assert kind == "sandbox.files_lost"
    assert files.left_behind(kind, told)
    assert not (tmp_path / "back/noise").exists()


def test_files_are_asked_for_again_when_the_log_is_away(
    session_log: SessionLog, functions: Functions, tmp_path: Path
) -> None:
    """One answer that did not come says nothing about what is kept."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("x")
    files.save(functions, str(tmp_path / "tree"))
    session_log.fault("load_files_v1", Fault(503))
    with pytest.raises(Unavailable):
        files.bring_back(functions, str(tmp_path / "back"))
    kind, told = files.bring_back(functions, str(tmp_path / "back"))
    assert kind == "sandbox.files_restored"
    assert not files.left_behind(kind, told)


def test_a_tree_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """Compressed it is more than fits."""
    (tmp_path / "noise").write_bytes(os.urandom(files.ARCHIVE_BYTES + 1000))
    with pytest.raises(files.TooLarge):
        files.pack(str(tmp_path))


async def test_custom_tools_speak_mcp() -> None:
    """initialize, tools/list, tools/call, ping; a notification is acknowledged, anything else refused."""

    async def ask(event: str) -> dict[str, Any] | None:
        return {"content": [{"type": "text", "text": event}]} if event == "sevt_toolu_1" else None

    async def reply(method: str, **params: Any) -> dict[str, Any]:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer: dict[str, Any] = (await tools.answer({"message": message}))["mcp_response"]
        return answer

    tools = CustomTools([{"name": "t", "description": "d", "input_schema": {"type": "object"}}], ask)
    assert (await reply("initialize", protocolVersion="v"))["result"]["protocolVersion"] == "v"
    assert (await reply("tools/list"))["result"]["tools"][0]["inputSchema"] == {"type": "object"}
    called = await reply("tools/call", name="t", _meta={"claudecode/toolUseId": "toolu_1"})
    assert called["result"] == {"content": [{"type": "text", "text": "sevt_toolu_1"}], "isError": False}
    late = await reply("tools/call", name="t", _meta={"claudecode/toolUseId": "toolu_2"})
    assert late["result"]["isError"] is True
    assert "error" in await reply("tools/call", name="t")
    assert "error" in await reply("resources/list")
    assert (await reply("ping"))["result"] == {}
    silent = await tools.answer({"message": {"jsonrpc": "2.0", "method": "notifications/initialized"}})
    assert "id" not in silent["mcp_response"]
