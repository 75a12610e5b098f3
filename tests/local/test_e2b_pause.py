"""Sandboxes that are paused, by hand or at the end of their time, woken by connect, and killed all the same."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from e2b import AsyncSandbox, SandboxState
from e2b.exceptions import NotFoundException, SandboxException, SandboxNotRunningException

from local.e2b import jail
from local.e2b.egress import Network
from local.e2b.limits import Limits
from local.e2b.sandbox import House, Order, State
from local.e2b.sandbox import Sandbox as SandboxInside
from tests.local.e2b_world import Server, is_alive, only, serving, until

# A sandbox that a conversation keeps: paused at the end of its time, and woken by nothing but a connect.
KEPT: Any = {"lifecycle": {"on_timeout": "pause", "auto_resume": False}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("pause")) as started:
        yield started


def paused(sandbox: AsyncSandbox) -> Callable[[], Awaitable[bool]]:
    """Whether it is, asked of the control API."""

    async def asked() -> bool:
        return (await sandbox.get_info()).state is SandboxState.PAUSED

    return asked


async def test_a_pause_stops_every_process_and_connect_lets_them_go_on(server: Server) -> None:
    """A counter does not move while its sandbox is paused, and moves on, from where it was, after connect."""
    async with server.sandbox() as sandbox:
        await sandbox.commands.run(
            "while :; do echo x >> /tmp/ticks; sleep 0.02; done", background=True, timeout=0, stdin=False
        )
        ticks = server.root / sandbox.sandbox_id / "files" / "tmp" / "ticks"
        await until(lambda: ticks.exists() and ticks.stat().st_size > 4, "the counter runs")
        assert await sandbox.pause() is True
        size = ticks.stat().st_size
        assert await sandbox.pause() is False
        with pytest.raises(SandboxNotRunningException):
            await sandbox.commands.run("true")
        states = {p.status() for p in server.children() if p.name() == "bash"}
        assert ticks.stat().st_size == size
        assert psutil.STATUS_RUNNING not in states
        await sandbox.connect()
        await until(lambda: ticks.stat().st_size > size, "the counter goes on")


async def test_connect_answers_200_for_a_running_and_201_for_a_resumed_sandbox(server: Server) -> None:
    """The two cases are told apart, and a running sandbox's time is only ever made longer."""
    async with server.sandbox(timeout=600) as sandbox, server.http() as http:
        before = (await sandbox.get_info()).end_at
        answer = await http.post(f"/v2/sandboxes/{sandbox.sandbox_id}/connect", json={"timeout": 10})
        assert answer.status_code == 200
        assert (await sandbox.get_info()).end_at == before
        assert (await http.post(f"/sandboxes/{sandbox.sandbox_id}/pause")).status_code == 204
        assert (await http.post(f"/sandboxes/{sandbox.sandbox_id}/pause")).status_code == 409
        answer = await http.post(f"/v2/sandboxes/{sandbox.sandbox_id}/connect", json={"timeout": 60})
        assert answer.status_code == 201
        assert answer.json()["sandboxID"] == sandbox.sandbox_id


async def test_a_timeout_pauses_where_that_was_asked_for(server: Server) -> None:
    """With on_timeout=pause the sandbox is kept, and traffic wakes it where auto_resume was asked for."""
    async with server.sandbox(timeout=1, lifecycle={"on_timeout": "pause", "auto_resume": True}) as sandbox:

        async def paused() -> bool:
            return (await sandbox.get_info()).state is SandboxState.PAUSED

        await until(paused, "the sandbox is paused")
        assert (await sandbox.commands.run("echo awake")).stdout == "awake\n"


async def test_a_kept_sandbox_is_paused_and_woken_with_all_it_had(server: Server) -> None:
    """A shortened time pauses it; files and processes are there after connect, for as long as connect asks."""
    async with server.sandbox(timeout=600, **KEPT) as sandbox:
        await sandbox.files.write("notes.txt", "kept")
        await sandbox.commands.run("setsid -f sh -c 'echo $$ > pid; exec sleep 8000' </dev/null >/dev/null 2>&1")
        await sandbox.commands.run("until test -s pid; do :; done", timeout=20)
        await sandbox.set_timeout(1)
        await until(paused(sandbox), "it is paused")
        with pytest.raises(SandboxNotRunningException):
            await sandbox.files.read("notes.txt")
        assert await paused(sandbox)(), "traffic does not wake it"
        woken = await AsyncSandbox.connect(sandbox.sandbox_id, timeout=100, **server.options)
        assert 90 < ((await woken.get_info()).end_at - datetime.now(UTC)).total_seconds() < 101
        assert await woken.files.read("notes.txt") == "kept"
        assert (await woken.commands.run("kill -0 $(cat pid) && echo alive")).stdout == "alive\n"
        await woken.set_timeout(1)
        await until(paused(woken), "it is paused again")


async def test_a_paused_sandbox_can_be_killed(server: Server) -> None:
    """It ends with its processes; connect then says that there is none."""
    sandbox = await AsyncSandbox.create(timeout=600, **KEPT, **server.options)
    await sandbox.commands.run("setsid -f sleep 8100 </dev/null >/dev/null 2>&1")
    await sandbox.pause()
    frozen = [p for p in server.children() if "8100" in p.cmdline()]
    assert frozen
    assert await sandbox.kill() is True
    assert not [p for p in frozen if is_alive(p)]
    for call in (AsyncSandbox.connect, AsyncSandbox.get_info):
        with pytest.raises(NotFoundException):
            await call(sandbox.sandbox_id, **server.options)


async def test_a_paused_sandbox_has_no_time_and_no_network(server: Server) -> None:
    """As at E2B a timeout does not find it; what it may reach is replaced when it is awake again."""
    async with server.sandbox(**KEPT) as sandbox:
        await sandbox.pause()
        with pytest.raises(NotFoundException):
            await sandbox.set_timeout(60)
        with pytest.raises(SandboxException, match="409"):
            await sandbox.update_network(only("127.0.0.1:9"))


async def test_everyone_may_wake_it_at_once(server: Server) -> None:
    """One connect resumes, the others find it running, none is refused, and the longest time holds."""
    async with server.sandbox(**KEPT) as sandbox, server.http() as http:
        await sandbox.pause()
        path = f"/v2/sandboxes/{sandbox.sandbox_id}/connect"
        answers = await asyncio.gather(*(http.post(path, json={"timeout": 100 + n}) for n in range(8)))
        assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
        assert ((await sandbox.get_info()).end_at - datetime.now(UTC)).total_seconds() > 105


@pytest.mark.parametrize("keeps", [True, False], ids=["pause", "kill"])
async def test_who_asks_for_time_as_it_ends_gets_it(tmp_path: Path, keeps: bool) -> None:
    """A connect is never answered with a sandbox that stops under the caller, however close to its end it comes."""
    house = House(tmp_path, Limits(1 << 30, 64), jail.prepare(tmp_path), isolated=False)
    sandbox = SandboxInside(house, Order("base", {}, {}, Network(), timeout=600, pause_at_end=keeps))
    await sandbox.start()
    try:
        sandbox._time_is_up()
        assert await sandbox.wake(900) is False
        await asyncio.gather(*sandbox._tasks)
        assert sandbox.state is State.RUNNING
    finally:
        await sandbox.kill()
