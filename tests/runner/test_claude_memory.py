"""Claude's transcript goes out, comes back, and no entry takes another one with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sandbox_scripts.drivers.claude import memory
from sandbox_scripts.drivers.claude.blocks import TOO_DEEP
from sandbox_scripts.drivers.claude.cli import config_directory
from sandbox_scripts.job import Job
from sandbox_scripts.log import Functions
from tests.runner.log_server import Fault
from tests.runner.session_server import SessionLog


def projects() -> str:
    """Where the CLI keeps its transcripts; below HOME, which is each test's own."""
    return config_directory() + "/projects"


def chain(middle: dict[str, Any]) -> list[dict[str, Any]]:
    """Three entries, the second one of them that one."""
    return [{"uuid": "a"}, {"uuid": "b", "parentUuid": "a", **middle}, {"uuid": "c", "parentUuid": "b"}]


async def test_a_transcript_goes_out_and_comes_back(
    session_log: SessionLog, functions: Functions, turn_job: Job, tmp_path: Path
) -> None:
    """In order, sub-agents and their metadata beside it; a subpath that leads out is not followed."""
    mirror = memory.Mirror(turn_job)
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


async def test_an_entry_that_is_too_large_keeps_its_place(session_log: SessionLog, turn_job: Job) -> None:
    """The chain of uuids stays whole; its content is left out."""
    mirror = memory.Mirror(turn_job)
    huge = {"uuid": "b", "parentUuid": "a", "message": {"role": "user", "content": "x" * 9_000_000}}
    await mirror.append({}, [{"uuid": "a"}, huge, {"uuid": "c", "parentUuid": "b"}])
    assert mirror.close(30)
    kept = session_log.transcripts[""]
    assert [entry["uuid"] for entry in kept] == ["a", "b", "c"]
    assert kept[1]["message"]["content"] == memory.TOO_LARGE


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        ({"text": "a\0b\ud83d"}, {"text": "a\ufffdb\ufffd"}),
        ({"in": [{"k\0": {"\udc00": "\0"}}]}, {"in": [{"k\ufffd": {"\ufffd": "\ufffd"}}]}),
        ({"numbers": [float("nan"), float("inf"), 1.5]}, {"numbers": [None, None, 1.5]}),
        ({"text": "\\u0000 is text"}, {"text": "\\u0000 is text"}),
    ],
)
async def test_what_jsonb_does_not_take_is_replaced(
    session_log: SessionLog, turn_job: Job, raw: dict[str, Any], kept: dict[str, Any]
) -> None:
    """As in events, in keys and values of any depth; all else of the batch is as it was."""
    mirror = memory.Mirror(turn_job)
    await mirror.append({}, chain(raw))
    assert mirror.close(20)
    assert session_log.transcripts[""] == chain(kept)
    assert len(session_log.called("append_transcript_v1")) == 1


async def test_an_entry_that_is_nested_too_deeply_is_kept_as_deep_as_events(
    session_log: SessionLog, turn_job: Job
) -> None:
    """JSON of any depth stands in a transcript; Python's encoder has a limit."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    mirror = memory.Mirror(turn_job)
    await mirror.append({}, chain({"deep": deep}))
    assert mirror.close(20)
    assert [entry["uuid"] for entry in session_log.transcripts[""]] == ["a", "b", "c"]
    assert TOO_DEEP in json.dumps(session_log.transcripts[""][1])


async def test_an_entry_that_is_refused_takes_no_other_with_it(session_log: SessionLog, turn_job: Job) -> None:
    """It keeps its place without its content, and the order stays."""
    session_log.sour = lambda entry: "bad" in json.dumps(entry.get("message"))
    entries = [
        {"uuid": str(n), "message": {"role": "user", "content": "bad" if n in (3, 4, 10) else n}} for n in range(11)
    ]
    mirror = memory.Mirror(turn_job)
    await mirror.append({}, entries)
    assert mirror.close(20)
    lean = {"role": "user", "content": memory.UNKEEPABLE}
    wanted = [{**entry, "message": lean} if entry["uuid"] in ("3", "4", "10") else entry for entry in entries]
    assert session_log.transcripts[""] == wanted


async def test_an_entry_that_is_refused_however_lean_is_left_out_alone(session_log: SessionLog, turn_job: Job) -> None:
    """And close() says that not all was kept."""
    session_log.sour = lambda entry: entry["uuid"] == "b"
    mirror = memory.Mirror(turn_job)
    await mirror.append({}, [*chain({}), "no object"])
    await mirror.append({}, [{"uuid": "d"}])
    assert not mirror.close(20)
    assert [entry["uuid"] for entry in session_log.transcripts[""]] == ["a", "c", "d"]


async def test_a_mirror_of_a_run_that_is_over_has_not_kept_all(session_log: SessionLog, turn_job: Job) -> None:
    """Its thread ends at once, and close() does not take that for the end of its work."""
    session_log.fault("append_transcript_v1", Fault(403))
    mirror = memory.Mirror(turn_job)
    await mirror.append({}, chain({}))
    assert not mirror.close(20)


async def test_a_log_that_is_away_is_waited_for(session_log: SessionLog, turn_job: Job) -> None:
    """What was not answered is sent again."""
    session_log.fault("append_transcript_v1", Fault(503), Fault(None))
    mirror = memory.Mirror(turn_job)
    await mirror.append({}, chain({}))
    assert mirror.close(20)
    assert session_log.transcripts[""] == chain({})


async def test_a_line_of_the_cli_is_mirrored_without_the_sdk(session_log: SessionLog, turn_job: Job) -> None:
    """The conversation's and a sub-agent's; what the SDK had taken over before is not kept twice."""
    mirror = memory.Mirror(turn_job)
    await mirror.append({"project_key": "p", "session_id": "s"}, chain({})[:2])
    mirror.mirror({"type": "transcript_mirror", "filePath": f"{projects()}/p/s.jsonl", "entries": chain({})})
    agent = {"filePath": f"{projects()}/p/s/subagents/agent-1.jsonl", "entries": [{"uuid": "x", "text": "\0"}]}
    mirror.mirror(agent)
    for broken in (
        {},
        {"filePath": 7, "entries": []},
        {**agent, "entries": None},
        {**agent, "filePath": "/etc/passwd"},
    ):
        mirror.mirror(broken)
    assert mirror.close(20)
    assert session_log.transcripts == {"": chain({}), "subagents/agent-1": [{"uuid": "x", "text": "\ufffd"}]}


@pytest.mark.parametrize(
    "path",
    [
        "{}/p/s.jsonl",
        "{}/p/s/subagents/agent-1.jsonl",
        "{}/p/s/subagents/deeper/agent-1.jsonl",
        "{}/p/s/subagents/agent-1.txt",
        "{}/p/s.txt",
        "{}/p/s/agent.jsonl",
        "{}/s.jsonl",
        "{}/p/../../evil/s.jsonl",
        "{}",
        "/etc/passwd",
    ],
)
def test_a_transcript_has_the_place_that_the_sdk_gives_it(path: str) -> None:
    """Both name the same transcript, whoever reads the line."""
    from claude_agent_sdk._internal.session_store import file_path_to_session_key  # slow to import

    path = path.format(projects())
    key = file_path_to_session_key(path, projects())
    assert memory.transcript(path) == (None if key is None else key.get("subpath", ""))
