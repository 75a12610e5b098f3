"""Signing in with the local Auth, staying signed in, and the client as a whole against a Supabase that is real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sandstream import (
    Anonymous,
    ConflictError,
    InvalidRequestError,
    NotAuthenticatedError,
    NotFoundError,
    Password,
    Sandstream,
    UnavailableError,
)
from sandstream.signin import SignedIn
from sandstream.wire import Config
from tests.client.fake_endpoints import FakeEndpoints, serving
from tests.client.fault_proxy import FaultProxy
from tests.client.watching import one_to
from tests.client.world import PASSWORD, PUBLISHABLE_KEY, Deployment, World


@pytest.fixture
async def endpoints(world: World) -> AsyncIterator[FakeEndpoints]:
    config = {"supabase_url": world.supabase.url, "publishable_key": PUBLISHABLE_KEY}
    async with serving(FakeEndpoints(config)) as scripted:
        yield scripted


async def test_a_user_signs_in_and_watches(world: World, endpoints: FakeEndpoints) -> None:
    """One address and a password are all that a client needs."""
    person = await world.person()
    run = await person.admit()
    await run.append(5)
    last = await run.finish()
    async with Sandstream(endpoints.url, Password(person.email, PASSWORD)) as client:
        assert [event.seq async for event in client.watch(run.session_id)] == one_to(last)
        assert [event.seq async for event in client.watch(run.session_id, 4)] == one_to(last, 4)


async def test_an_anonymous_user_is_somebody_of_their_own(world: World, endpoints: FakeEndpoints) -> None:
    """Signed in, but a stranger to everybody's sessions."""
    run = await (await world.person()).admit()
    async with Sandstream(endpoints.url, Anonymous()) as client:
        assert await client.token() == await client.token()
        with pytest.raises(NotFoundError):
            await anext(client.watch(run.session_id))


async def test_a_wrong_password_is_refused(world: World, endpoints: FakeEndpoints) -> None:
    """And never shown where a client is printed."""
    person = await world.person()
    wrong = Password(person.email, "wrong")
    assert "wrong" not in repr(wrong)
    async with Sandstream(endpoints.url, wrong) as client:
        with pytest.raises(NotAuthenticatedError):
            await client.token()


@pytest.fixture
async def signed_in(world: World, proxy: FaultProxy) -> AsyncIterator[SignedIn]:
    """Somebody who signs in through a proxy."""
    person = await world.person()
    config = Config(supabase_url=proxy.url, publishable_key=PUBLISHABLE_KEY)
    session = SignedIn(config, Password(person.email, PASSWORD))
    yield session
    await session.close()


async def test_a_token_is_renewed_when_it_is_time(signed_in: SignedIn) -> None:
    """Once, however many ask at the same time, since a refresh token is good for one use."""
    first = await signed_in.token()
    assert await signed_in.token() == first
    signed_in._renew_at = 0.0
    renewed = await asyncio.gather(*(signed_in.token() for _ in range(5)))
    assert len({signed_in._refresh_token, *renewed}) == 2
    assert signed_in._renew_at > 0


async def test_a_session_that_is_over_is_begun_anew(signed_in: SignedIn) -> None:
    """With a password one can always sign in again."""
    await signed_in.token()
    signed_in._renew_at, signed_in._refresh_token = 0.0, "no such token"
    assert await signed_in.token()


async def test_an_auth_that_is_away_is_unavailable(signed_in: SignedIn, proxy: FaultProxy) -> None:
    """A watch waits for it; a wrong password it would not wait for."""
    proxy.faults.refuse = True
    with pytest.raises(UnavailableError):
        await signed_in.token()
    proxy.faults.refuse = False
    assert await signed_in.token()


async def test_the_endpoints_that_read(world: World, deployment: Deployment) -> None:
    """The deployed endpoints answer what the client understands."""
    person = await world.person()
    run = await person.admit()
    await run.append(5)
    async with Sandstream(deployment.url, person.token) as client:
        sessions = await client.sessions()
        assert [str(session.id) for session in sessions.data] == [run.session_id]
        assert (await client.session(run.session_id)).status == "running"
        page = await client.events(run.session_id, after=2, limit=3)
        assert ([event.seq for event in page.data], page.has_more, page.next_cursor) == ([3, 4, 5], True, "5")
        assert (await client.run(run.run_id)).status == "running"
        assert (await client.cancel(run.run_id)).cancel_requested_at is not None
        await run.finish("cancelled")
        with pytest.raises(ConflictError):
            await client.cancel(run.run_id)
        with pytest.raises(InvalidRequestError) as raised:
            await client.submit([])
        assert raised.value.param == "commands"
    async with Sandstream(deployment.url, (await world.person()).token) as stranger:
        with pytest.raises(NotFoundError):
            await stranger.run(run.run_id)


async def test_a_result_is_waited_for(world: World, deployment: Deployment) -> None:
    """The run is answered once its log has said that it ended, whatever else the session held before."""
    person = await world.person()
    before = await person.admit()
    await before.finish("failed")
    run = await person.admit(before.session_id)
    async with Sandstream(deployment.url, person.token) as client, asyncio.timeout(60):
        waiting = asyncio.create_task(client.result(run.run_id))
        await run.append(3)
        assert not waiting.done()
        await run.finish("timed_out")
        ended = await waiting
        assert (ended.status, str(ended.id)) == ("timed_out", run.run_id)
        assert (await client.result(ended)).status == "timed_out"
