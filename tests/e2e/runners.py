"""Endpoints in the test's own process, which put another runner into sandboxes, or say other things to Supabase."""

import io
import json
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx

from functions.api import create_api
from functions.bundle import Bundle, build
from functions.launch import Launcher
from functions.recovery import Recovery
from functions.sandboxes import Sandboxes
from functions.settings import Settings
from functions.store import Store
from functions.turns import Turns
from functions.wiring import Services, opened
from local.stack import Stack
from tests.conftest import Person
from tests.e2e.conversing import message

Json = dict[str, Any]
# Python's wall clock for all that the runner imports; its clock for decisions counts from the machine's start.
SHIFT = """import time
at, at_ns = time.time, time.time_ns
time.time = lambda: at() + {seconds}
time.time_ns = lambda: at_ns() + {seconds} * 10**9
"""


class Budgeted(httpx.AsyncHTTPTransport):
    """The way to Supabase, on which a plan is given a budget: over HTTP it is whole cents, which last for minutes."""

    def __init__(self, microusd: int) -> None:
        super().__init__()
        self._microusd = microusd

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Passes everything on, an admission with its budget."""
        if request.url.path.endswith("/rpc/admit_run_v1"):
            body = {**json.loads(request.content), "budget_microusd": self._microusd}
            headers = {name: value for name, value in request.headers.items() if name != "content-length"}
            request = httpx.Request(
                request.method, request.url, headers=headers, json=body, extensions=request.extensions
            )
        return await super().handle_async_request(request)


@asynccontextmanager
async def endpoints_with(
    stack: Stack, runner: Bundle | None = None, way: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[httpx.ASGITransport]:
    """Endpoints over the stack with this runner and this way to Supabase; for requests whose answer is short."""
    known = {name.lower(): value for name, value in stack.api_environment().items()}
    settings = Settings.model_validate({name: known[name] for name in Settings.model_fields if name in known})
    app = create_api(settings)
    async with opened(settings) as made, httpx.AsyncClient(transport=way, timeout=60) as http:
        app.state.services = changed(made, settings, runner or build(), Store(settings, http))
        yield httpx.ASGITransport(app)


def changed(made: Services, settings: Settings, runner: Bundle, store: Store) -> Services:
    """The services, launching this runner and calling this store."""
    sandboxes = Sandboxes(settings, runner)
    launcher = Launcher(settings, store, sandboxes, made.tokens)
    recovery = Recovery(settings, store, sandboxes, made.tokens, launcher)
    turns = Turns(settings, store, sandboxes, launcher, recovery)
    return replace(made, store=store, sandboxes=sandboxes, launcher=launcher, recovery=recovery, turns=turns)


async def submit(here: httpx.ASGITransport, owner: Person, *commands: str) -> Json:
    """A plan's run as those endpoints answer it."""
    return await post(here, owner, "/v1/runs", {"commands": [{"command": command} for command in commands]})


async def begin_at(here: httpx.ASGITransport, owner: Person, text: str) -> str:
    """A session that starts at once, launched by those endpoints; its id."""
    asked = {"agent": "default", "environment_id": "default", "initial_events": [message(text)]}
    return str((await post(here, owner, "/v1/sessions", asked))["id"])


async def post(here: httpx.ASGITransport, owner: Person, path: str, body: Json) -> Json:
    """What they answer."""
    async with httpx.AsyncClient(transport=here, base_url="http://here.test", headers=owner.headers) as http:
        answer = await http.post(path, json=body)
    assert answer.is_success, answer.text
    found: Json = answer.json()
    return found


def with_clock_off(bundle: Bundle, seconds: int) -> Bundle:
    """The runner, in whose process the wall clock is off by so much."""
    return preceded(bundle, SHIFT.format(seconds=seconds), f"runner-off-by-{seconds}.pyz")


def as_it_was_started(bundle: Bundle) -> Bundle:
    """An earlier release's runner, which was started with site-packages; today's start leaves them out at first."""
    return preceded(bundle, "import site\nsite.main()\n", bundle.name)


def preceded(bundle: Bundle, prelude: str, name: str) -> Bundle:
    """The runner, before whose first import something happens."""
    package, buffer = "sandbox_scripts/__init__.py", io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for member in old.namelist():
            if member != f"{package}c":
                new.writestr(member, (prelude.encode() if member == package else b"") + old.read(member))
    return Bundle(buffer.getvalue(), name)


async def rows(service: httpx.AsyncClient, table: str, **equal: str) -> list[Json]:
    """The rows of a table, as the control plane sees them."""
    answer = await service.get(f"/{table}", params={name: f"eq.{value}" for name, value in equal.items()})
    assert answer.status_code == httpx.codes.OK, answer.text
    found: list[Json] = answer.json()
    return found


async def spent(service: httpx.AsyncClient, session_id: str) -> list[Json]:
    """The session's movements of money that were spent, in order."""
    found = await rows(service, "ledger", session_id=session_id, entry="spend")
    return sorted(found, key=lambda row: int(row["id"]))
