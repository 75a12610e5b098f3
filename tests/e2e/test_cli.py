"""The command line, as a person and as a script use it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from local.stack import Stack
from sandstream.client import Sandstream
from tests.conftest import Person
from tests.e2e.sandboxes import until

SANDSTREAM = str(Path(sys.executable).with_name("sandstream"))


def environment(person: Person) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "SANDSTREAM_URL": person.stack.api.url,
        "SANDSTREAM_KEY": person.token,
        "COLUMNS": "160",
    }


def machine(tmp_path: Path, **settings: str) -> dict[str, str]:
    """This machine's environment, a directory for what is made, and no key for a real model."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC_", "OPENAI_"))}
    return {**inherited, "TMPDIR": str(tmp_path), "COLUMNS": "160", **settings}


async def sandstream(env: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    process = await asyncio.create_subprocess_exec(
        SANDSTREAM, *arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_run_shows_what_happens(owner: Person) -> None:
    """The command's output and the run's end are printed, and success is exit code 0."""
    code, out, _ = await sandstream(environment(owner), "run", "--", "echo", "hello from the sandbox")
    assert code == 0
    assert "hello from the sandbox" in out
    assert "run.succeeded" in out


async def test_a_failed_run_is_a_failed_command(owner: Person) -> None:
    """A script can rely on the exit code."""
    code, out, _ = await sandstream(environment(owner), "run", "--", "exit 3")
    assert code == 1
    assert "run.failed" in out


async def test_a_plan_comes_from_a_file(owner: Person, tmp_path: Path) -> None:
    """A plan file has what the endpoint takes; --json prints events that a program can read."""
    plan = tmp_path / "plan.json"
    plan.write_text(
        json.dumps({"commands": [{"command": "echo one"}, {"command": "echo two"}], "title": "from a file"})
    )
    code, out, _ = await sandstream(environment(owner), "run", "-f", str(plan), "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    _, listed, _ = await sandstream({**environment(owner), "COLUMNS": "80"}, "sessions")
    assert "from a file" in listed
    assert events[0]["session_id"] in listed


@pytest.mark.parametrize(
    "content",
    ["", "[]", "7", '{"commands": 1}', '{"commands": [7]}', '{"commands": ["true"], "priority": 1}'],
)
async def test_a_file_that_is_no_plan_is_said(content: str, owner: Person, tmp_path: Path) -> None:
    """Whatever is in the file: one line, no trace, nothing submitted."""
    plan = tmp_path / "plan.json"
    plan.write_text(content)
    code, out, err = await sandstream(environment(owner), "run", "-f", str(plan))
    assert (code, out) == (1, "")
    assert "is not a plan" in err
    assert "Traceback" not in err


async def test_watch_and_cancel(owner: Person, client: Sandstream) -> None:
    """A detached run is watched from another terminal, and cancelled from a third."""
    code, out, _ = await sandstream(environment(owner), "run", "--detach", "--", "echo up; sleep 300")
    assert code == 0
    ids = json.loads(out)
    watching = asyncio.create_task(sandstream(environment(owner), "watch", ids["session_id"]))

    async def running() -> bool | None:
        return (await client.run(ids["run_id"])).status == "running" or None

    await until(running, "the run to start")
    code, out, _ = await sandstream(environment(owner), "cancel", ids["run_id"])
    assert (code, "asked run" in out) == (0, True)
    code, out, _ = await watching
    assert code == 0
    assert "run.cancelled" in out
    code, _, err = await sandstream(environment(owner), "cancel", ids["run_id"])
    assert (code, "cancelled" in err) == (1, True)


async def test_ctrl_c_asks_the_run_to_stop(owner: Person, client: Sandstream) -> None:
    """Whoever leaves a run with Ctrl-C does not leave it running, and is told so."""
    process = await asyncio.create_subprocess_exec(
        SANDSTREAM,
        "run",
        "--",
        "echo up; sleep 300",
        env=environment(owner),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while b"command.output" not in (line := await process.stdout.readline()):
            assert line
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, b"to stop" in err) == (130, True)
    (session,) = (await client.sessions()).data
    types = [event.type async for event in client.watch(session.id)]
    assert types[-2:] == ["run.cancelled", "session.status_idle"]


async def test_an_id_that_is_none_is_refused(owner: Person) -> None:
    """In words, before anything is asked."""
    for command in ("watch", "cancel"):
        code, _, err = await sandstream(environment(owner), command, "not-an-id")
        assert code == 2
        assert "Traceback" not in err


async def test_words_stay_words(owner: Person) -> None:
    """Several words after `--` are one command and its arguments, as a shell was given them."""
    code, out, _ = await sandstream(environment(owner), "run", "--json", "--", "printf", "%s|", "a b", "c")
    assert code == 0
    outputs = [json.loads(line)["data"].get("text") for line in out.splitlines()]
    assert "a b|c|" in outputs


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run",), "give a command"),
        (("run", "-f", "no-such-file.json"), "is not a plan"),
        (("watch", "00000000-0000-0000-0000-000000000000"), "there is no session"),
        (("cancel", "00000000-0000-0000-0000-000000000000"), "run not found"),
    ],
)
async def test_what_cannot_be_done_is_one_line(arguments: tuple[str, ...], says: str, owner: Person) -> None:
    """Exit code 1, one line that says why, no trace."""
    code, _, err = await sandstream(environment(owner), *arguments)
    assert code == 1
    assert says in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


async def test_a_bad_key_is_said(owner: Person) -> None:
    """A token that does not hold is refused in words."""
    code, _, err = await sandstream({**environment(owner), "SANDSTREAM_KEY": "made-up"}, "sessions")
    assert (code, "not valid" in err) == (1, True)


def lives(process: psutil.Process) -> bool:
    """Whether it runs; it may end while it is asked."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


async def test_the_demo_holds_and_leaves_nothing(tmp_path: Path) -> None:
    """Exit code 0, every check ok; no process and no directory of it is left."""
    code, out, err = await sandstream(machine(tmp_path), "demo")
    assert code == 0, out + err
    assert [
        each for each in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(each.info["cmdline"] or [])
    ] == []
    assert "no gap, no repeat" in out
    assert "FAILED" not in out
    assert os.listdir(tmp_path) == []


async def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    """Stopped in the middle of a run, the stack is taken down to the last process and directory."""
    process = await asyncio.create_subprocess_exec(SANDSTREAM, "demo", env=machine(tmp_path), stdout=subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(90):
        while b"command.started" not in (line := await process.stdout.readline()):
            assert line
    family = descendants(process.pid)
    assert len(family) > 4
    process.send_signal(signal.SIGINT)
    await process.stdout.read()
    assert await asyncio.wait_for(process.wait(), 60) == 130
    assert [each for each in family if lives(each)] == []
    assert os.listdir(tmp_path) == []


@asynccontextmanager
async def up(env: dict[str, str], warnings: Path, how: signal.Signals) -> AsyncIterator[dict[str, str]]:
    """What `up --json` says of its stack. It is ended by a signal, and nothing of it may be left running."""
    with warnings.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            SANDSTREAM, "up", "--json", env=env, stdout=subprocess.PIPE, stderr=stderr
        )
    assert process.stdout is not None
    described: dict[str, str] = json.loads(await asyncio.wait_for(process.stdout.readline(), 90))
    yield described
    family = descendants(process.pid)
    process.send_signal(how)
    code = await asyncio.wait_for(process.wait(), 60)
    assert code == (130 if how is signal.SIGTERM else -how)

    async def all_gone() -> bool | None:
        return not any(map(lives, family)) or None

    await until(all_gone, "the stack to follow its parent")


async def test_up_speaks_to_scripts_until_it_is_told_to_end(tmp_path: Path) -> None:
    """`up --json` prints one line with every address. A SIGTERM in the middle of a run leaves no directory either."""
    made = tmp_path / "made"
    made.mkdir()
    async with up(machine(made), tmp_path / "stderr", signal.SIGTERM) as described:
        addresses = {"api_url", "supabase_url", "e2b_api_url", "models_url", "web_url"}
        assert set(described) == addresses | {"publishable_key", "secret_key", "e2b_api_key", "user_token"}
        async with Sandstream(described["api_url"], described["user_token"]) as client:
            assert (await client.sessions()).data == []
            await client.submit(["sleep 100000"])
    assert os.listdir(made) == []


async def test_without_isolation_it_works_and_warns(tmp_path: Path) -> None:
    """Where there are no namespaces plans and conversations run unisolated, when asked to; each start says so."""
    async with up(machine(tmp_path, SANDBOX_ISOLATION="none"), tmp_path / "stderr", signal.SIGKILL) as described:
        keys = {"SANDSTREAM_URL": described["api_url"], "SANDSTREAM_KEY": described["user_token"]}
        code, out, _ = await sandstream({**machine(tmp_path), **keys}, "run", "--", "echo free as a bird")
        assert (code, "free as a bird" in out) == (0, True)
        code, out, err = await sandstream({**machine(tmp_path), **keys}, "chat", "hello")
        assert (code, "end_turn" in out) == (0, True), out + err
    assert "unisolated" in (tmp_path / "stderr").read_text()


async def test_a_stack_that_cannot_start_says_why(stack: Stack, tmp_path: Path) -> None:
    """A part that does not come up ends the program with a reason, and takes the others down."""
    code, _, err = await sandstream(machine(tmp_path, SANDBOX_ISOLATION="nonsense"), "up")
    assert code == 1
    assert "SANDBOX_ISOLATION" in err.upper() or "sandbox_isolation" in err
    assert os.listdir(tmp_path) == []


async def test_keys_are_made_used_and_revoked_at_a_terminal(owner: Person) -> None:
    """The secret alone is on stdout, so that a script can take it; it runs a plan, and does no more once revoked."""
    code, secret, told = await sandstream(environment(owner), "keys", "create", "ci")
    assert (code, secret.startswith("sst_"), len(secret.strip())) == (0, True, 47)
    id = told.split()[0]
    behind = {**environment(owner), "SANDSTREAM_KEY": secret.strip()}
    code, out, _ = await sandstream(behind, "run", "--", "echo", "hello behind a key")
    assert (code, "hello behind a key" in out) == (0, True)
    code, _, err = await sandstream(behind, "keys", "list")
    assert (code, "scope" in err) == (1, True)
    code, out, _ = await sandstream(environment(owner), "keys", "revoke", id)
    assert (code, id in out) == (0, True)
    code, out, _ = await sandstream(environment(owner), "keys", "list")
    assert [word in out for word in (id, secret[:12], "run,read", "revoked", "ci", secret.strip())] == [True] * 5 + [
        False
    ]
