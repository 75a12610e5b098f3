"""A Postgres and a Realtime server of a test module's own, and the people who use them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import uvicorn
from pydantic import SecretStr
from realtime import AsyncRealtimeChannel, RealtimeSubscribeStates
from starlette.applications import Starlette

from local.database import prepare
from local.postgres import Postgres
from local.stack import free_port
from local.supabase.keys import Keyring, new_signing_key
from local.supabase.realtime import Realtime, routes, running
from local.supabase.settings import SupabaseSettings
from supabase import AsyncClient, acreate_client

DEADLINE_SECONDS = 20.0

MIGRATION = """
create table public.notes (
  id bigint generated always as identity primary key,
  owner uuid not null, body text, stars numeric(6, 2), data jsonb, tags text[], at timestamptz
);
alter table public.notes enable row level security;
alter table public.notes replica identity full;
create policy "An owner reads their notes" on public.notes for select to authenticated
  using (owner = (select auth.uid()));
create table public.bulletins (id int primary key, body text, secret text);
revoke select on public.bulletins from anon, authenticated;
grant select (id, body) on public.bulletins to anon, authenticated;
alter table public.bulletins replica identity full;
create table public.plain (id int primary key, body text);
create table public.unpublished (id int primary key);
alter publication supabase_realtime add table public.notes, public.bulletins, public.plain;

create policy "A user reads their own topic" on realtime.messages for select to authenticated
  using (realtime.topic() = 'user:' || (select auth.uid()));
create policy "A user writes to their own topic" on realtime.messages for insert to authenticated
  with check (realtime.topic() = 'user:' || (select auth.uid()));
create policy "Everyone signed in listens to the hall" on realtime.messages for select to authenticated
  using (realtime.topic() = 'hall' and extension = 'broadcast');
create policy "Members read a room" on realtime.messages for select to authenticated
  using (realtime.topic() = 'room' and (select auth.jwt() ->> 'room') = 'yes');
"""


@dataclass
class World:
    """The server under test, and what a test may do to it."""

    postgres: Postgres
    realtime: Realtime
    keys: Keyring
    settings: SupabaseSettings

    @property
    def url(self) -> str:
        """The project's URL, as `create_client` takes it."""
        return self.settings.supabase_url

    def token(self, user: str, seconds: float = 600.0, **claims: Any) -> str:
        """A user's token."""
        expires = int(time.time() + seconds)
        known = {"sub": user, "role": "authenticated", "aud": "authenticated", "exp": expires}
        return self.keys.sign(known | claims)

    async def sql(self, query: str, *arguments: Any) -> None:
        """Run one statement as `postgres`, and commit it."""
        dsn = self.postgres.dsn("postgres")
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await connection.execute(query.encode(), arguments)

    async def send(self, topic: str, payload: Any, event: str = "event", *, private: bool = True) -> None:
        """Broadcast from the database."""
        await self.sql("select realtime.send(%s::jsonb, %s, %s, %s)", json.dumps(payload), event, topic, private)

    @contextlib.asynccontextmanager
    async def client(self, token: str | None = None) -> AsyncIterator[AsyncClient]:
        """An unmodified supabase-py client, signed in by `token`."""
        client = await acreate_client(self.url, self.settings.publishable_key)
        if token is not None:
            await client.realtime.set_auth(token)
        try:
            yield client
        finally:
            await client.remove_all_channels()


@dataclass
class Ear:
    """What one channel of a client heard."""

    channel: AsyncRealtimeChannel
    heard: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    states: asyncio.Queue[tuple[str, str]] = field(default_factory=asyncio.Queue)

    async def next(self) -> Any:
        """The next thing heard."""
        return await asyncio.wait_for(self.heard.get(), DEADLINE_SECONDS)

    async def state(self) -> tuple[str, str]:
        """The next state of the subscription, and its error."""
        return await asyncio.wait_for(self.states.get(), DEADLINE_SECONDS)

    def on_state(self, state: RealtimeSubscribeStates, error: Exception | None) -> None:
        """The callback for `subscribe`."""
        self.states.put_nowait((state.value, str(error or "")))

    async def subscribe(self) -> str:
        """Join; the resulting state."""
        await self.channel.subscribe(self.on_state)
        return (await self.state())[0]


def listen(client: AsyncClient, topic: str, *, private: bool = True, **config: Any) -> Ear:
    """A channel whose broadcasts are heard, not joined yet."""
    channel = client.channel(topic, {"config": {"private": private, **config}})  # type: ignore[arg-type]
    ear = Ear(channel)
    channel.on_broadcast("*", ear.heard.put_nowait)
    return ear


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that has no event of its own."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 there is no event to wait for
            await asyncio.sleep(0.01)


def new_user() -> str:
    """A user's id."""
    return str(uuid.uuid4())


@contextlib.asynccontextmanager
async def open_world(directory: Path) -> AsyncIterator[World]:
    """Start everything, and end everything."""
    # The client logs refused joins as errors; refusing is what is tested here.
    logging.getLogger("realtime").setLevel(logging.CRITICAL)
    project = directory / "project"
    (project / "migrations").mkdir(parents=True)
    (project / "migrations" / "20260101000000_world.sql").write_text(MIGRATION)
    postgres = Postgres(directory / "data", free_port())
    await asyncio.to_thread(postgres.start)
    try:
        await asyncio.to_thread(prepare, postgres.dsn(), project)
        settings = _settings(postgres.dsn(), free_port())
        keys = Keyring(settings)
        realtime = Realtime(postgres.dsn(), keys)
        async with _serving(realtime, int(settings.supabase_url.rsplit(":", 1)[1])):
            yield World(postgres, realtime, keys, settings)
    finally:
        await asyncio.to_thread(postgres.stop)


@contextlib.asynccontextmanager
async def _serving(realtime: Realtime, port: int) -> AsyncIterator[None]:
    app = Starlette(routes=routes(realtime), lifespan=lambda _: running(realtime))
    config = uvicorn.Config(app, port=port, log_level="warning", ws_per_message_deflate=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def _settings(dsn: str, port: int) -> SupabaseSettings:
    return SupabaseSettings(
        database_url=dsn,
        supabase_url=f"http://127.0.0.1:{port}",
        signing_key=json.dumps(new_signing_key()),
        jwt_secret=SecretStr("a-legacy-secret-of-at-least-32-characters"),
        publishable_key="sb_publishable_test",
        secret_key=SecretStr("sb_secret_test"),
    )
