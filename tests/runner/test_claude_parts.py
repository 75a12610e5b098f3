"""The driver's parts one by one: stdin, the user's messages, files, transcripts, repositories, custom tools."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import os
import shlex
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox_scripts.drivers.claude import files, memory, repository
from sandbox_scripts.drivers.claude.custom import CustomTools
from sandbox_scripts.drivers.claude.input import Inbox, message_uuid, prompt
from sandbox_scripts.drivers.claude.memo import Memo
from sandbox_scripts.drivers.claude.record import Record
from sandbox_scripts.drivers.claude.stdin import FEED, Stdin
from sandbox_scripts.job import Job
from sandbox_scripts.log import Functions
from sandbox_scripts.spool import Spool
from tests.runner.conftest import until
from tests.runner.session_server import SessionLog
from tests.runner.talk import Talk

PIXEL = base64.b64encode(b"\x89PNG").decode()


@pytest.fixture
def job(talk: Talk) -> Job:
    """The job as the runner reads it."""
    return Job.load(str(talk.prepare()))


@pytest.fixture
def functions(job: Job) -> Iterator[Functions]:
    """The run token's functions."""
    functions = Functions(job)
    yield functions
    functions.close()


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
    """And that is told."""
    assert files.bring_back(functions, str(tmp_path)) == (
        "sandbox.files_lost",
        {"reason": "nothing was saved"},
    )


def test_an_archive_that_is_damaged_is_lost(session_log: SessionLog, functions: Functions, tmp_path: Path) -> None:
    """It does not end the run."""
    session_log.files = {"archive": base64.b64encode(b"no tar").decode(), "files": 1, "bytes": 1, "saved_at": "x"}
    kind, _ = files.bring_back(functions, str(tmp_path))
    assert kind == "sandbox.files_lost"


def test_a_tree_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """Compressed it is more than fits."""
    (tmp_path / "noise").write_bytes(os.urandom(files.ARCHIVE_BYTES + 1000))
    with pytest.raises(files.TooLarge):
        files.pack(str(tmp_path))


async def test_a_transcript_goes_out_and_comes_back(
    session_log: SessionLog, functions: Functions, job: Job, tmp_path: Path
) -> None:
    """In order, sub-agents and their metadata beside it; a subpath that leads out is not followed."""
    mirror = memory.Mirror(job)
    entries = [{"uuid": str(n), "type": "user", "n": n} for n in range(8)]
    await mirror.append({}, entries[:5])
    await mirror.append({}, entries[3:])
    await mirror.append({"subpath": "subagents/agent-1"}, [{"type": "agent_metadata", "a": 1}, {"uuid": "s", "n": 9}])
    assert mirror.close(20)
    session_log.transcripts["../../evil"] = [{"uuid": "e"}]
    project = str(tmp_path / "projects/p")
    assert memory.restore(functions, "session", project)
    lines = (tmp_path / "projects/p/session.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == entries
    agent_file = tmp_path / "projects/p/session/subagents/agent-1"
    assert json.loads(agent_file.with_suffix(".jsonl").read_text()) == {"uuid": "s", "n": 9}
    assert json.loads(agent_file.with_suffix(".meta.json").read_text()) == {"a": 1}
    assert not list(tmp_path.rglob("evil*"))


async def test_an_entry_that_is_too_large_keeps_its_place(session_log: SessionLog, job: Job) -> None:
    """The chain of uuids stays whole; its content is left out."""
    mirror = memory.Mirror(job)
    huge = {"uuid": "b", "parentUuid": "a", "message": {"role": "user", "content": "x" * 9_000_000}}
    await mirror.append({}, [{"uuid": "a"}, huge, {"uuid": "c", "parentUuid": "b"}])
    assert mirror.close(30)
    kept = session_log.transcripts[""]
    assert [entry["uuid"] for entry in kept] == ["a", "b", "c"]
    assert kept[1]["message"]["content"] == memory.TOO_LARGE


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


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[str]:
    """The URL of a repository that is served over http, as files."""
    source = tmp_path / "source"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(source)]
    source.mkdir()
    (source / "file").write_text("x")
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "one"], ["update-server-info"]):
        subprocess.run([*git, *arguments], check=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(source))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/.git"
    server.shutdown()
    server.server_close()


def test_repositories_are_cloned_once_and_failures_are_told(remote: str, tmp_path: Path) -> None:
    """Each with its event; the session goes on without the one that failed."""
    record = Record(Spool(str(tmp_path / "spool")), "0123456789")
    there, gone, branch = (str(tmp_path / name) for name in ("there", "gone", "branch"))
    wanted: list[dict[str, Any]] = [
        {"url": remote, "mount_path": there, "checkout": {"type": "branch", "name": "main"}},
        {"url": remote.replace(".git", "nowhere"), "mount_path": gone, "checkout": None},
        {"url": remote, "mount_path": branch, "checkout": {"type": "branch", "name": "nope"}},
    ]
    repository.clone_all(wanted, record)
    repository.clone_all(wanted[:1], record)
    events = [(event["type"], event["data"]) for event in Spool(str(tmp_path / "spool")).events()]
    assert [kind for kind, _ in events] == ["sandbox.repository_cloned", "session.error", "session.error"]
    errors = [data["error"] for _, data in events[1:]]
    assert [error["type"] for error in errors] == ["repository_not_found_error", "repository_checkout_error"]
    assert {error["retry_status"]["type"] for error in errors} == {"retrying"}
    assert Path(there, "file").read_text() == "x"


@pytest.mark.parametrize("url", ["ext::sh -c touch% /tmp/x", "file:///etc", "--upload-pack=touch /tmp/x"])
def test_a_url_that_would_run_something_is_refused(url: str, tmp_path: Path) -> None:
    """Only http and https are spoken."""
    with pytest.raises(repository.GitFailed):
        repository.clone(url, str(tmp_path / "place"), {})


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (
            "fatal: could not read Username for 'https://x'",
            "repository_authentication_error",
        ),
        ("fatal: unable to access 'https://x/': The requested URL returned error: 403", "repository_forbidden_error"),
        ("fatal: repository 'https://x/' not found", "repository_not_found_error"),
        ("fatal: Remote branch nope not found in upstream origin", "repository_checkout_error"),
        ("fatal: the disk is full", "repository_clone_error"),
    ],
)
def test_what_git_says_has_a_type(said: str, kind: str) -> None:
    """As the SDK names them."""
    assert repository._meaning(said, "repository_clone_error") == kind
