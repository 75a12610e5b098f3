"""One Supabase for all tests here, and endpoints that are scripted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from sandstream import endpoints as wire
from tests.client.fake_endpoints import FakeEndpoints, serving
from tests.client.fault_proxy import FaultProxy
from tests.client.world import Deployment, Supabase, World, supabase, world_of


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supabase]:
    with supabase(tmp_path_factory.mktemp("supabase")) as running:
        yield running


@pytest.fixture(scope="session")
async def world(server: Supabase) -> AsyncIterator[World]:
    async with world_of(server) as everybody:
        yield everybody


@pytest.fixture
async def proxy(server: Supabase) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(server.port) as between:
        yield between


@pytest.fixture(scope="session")
def deployment(server: Supabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    running = Deployment(tmp_path_factory.mktemp("endpoints") / "log", supabase=server.url)
    try:
        running.start()
        yield running
    finally:
        running.kill()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other closely."""
    monkeypatch.setattr(wire, "BACKOFF_FIRST_SECONDS", 0.001)


@pytest.fixture
async def endpoints() -> AsyncIterator[FakeEndpoints]:
    """Endpoints that a test scripts; there is no Supabase behind them."""
    config = {"supabase_url": "http://127.0.0.1:9", "publishable_key": "sb_publishable_x"}
    async with serving(FakeEndpoints(config)) as scripted:
        yield scripted
