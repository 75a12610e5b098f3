"""A Supabase of the tests' own: Postgres here, REST, Auth and Realtime in a child process; and its people."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt

from local.database import prepare
from local.postgres import Postgres
from local.stack import free_port
from local.supabase.keys import new_signing_key
from sandstream.access import SupabaseAccess
from sandstream.events import Event

PROJECT = Path(__file__).resolve().parents[2]
READY_SECONDS = 60.0
PASSWORD = "correct horse"
PUBLISHABLE_KEY = "sb_publishable_test"
SECRET_KEY = "sb_secret_test"
JWT_SECRET = "a-legacy-secret-of-at-least-thirty-two-bytes"


@dataclass
class Server:
    """A child process that serves one part of the stack; it can be killed, and started again at its address."""

    log: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    factory = ""
    ready_path = ""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """Its settings."""
        return {}

    def start(self) -> None:
        """Start, and return when it answers."""
        with socket.create_server(("127.0.0.1", self.port)) as listener, self.log.open("ab") as log:
            self.port = listener.getsockname()[1]
            command = [sys.executable, "-m", "local.part", self.factory, str(listener.fileno()), str(os.getpid())]
            self.process = subprocess.Popen(
                command, env=os.environ | self.environment(), pass_fds=[listener.fileno()],
                cwd=PROJECT, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._wait_until_ready()

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                break
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(self.url + self.ready_path, timeout=2).is_success:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"{self.factory} did not come up: {self.log.read_text()[-2000:]}")


@dataclass
class Supabase(Server):
    """REST, Auth and Realtime."""

    dsn: str = ""
    signing_key: dict[str, str] = field(default_factory=new_signing_key)
    factory = "local.supabase.app:create_app"
    ready_path = "/auth/v1/.well-known/jwks.json"

    def sign(self, claims: dict[str, Any]) -> str:
        """A token with these claims, signed with the project's key."""
        key = jwt.PyJWK(self.signing_key, "ES256").key
        return jwt.encode(claims, key, "ES256", headers={"kid": self.signing_key["kid"]})

    def environment(self) -> dict[str, str]:
        """Its settings."""
        return {
            "LOCAL_DATABASE_URL": self.dsn,
            "LOCAL_SUPABASE_URL": self.url,
            "LOCAL_SIGNING_KEY": json.dumps(self.signing_key),
            "LOCAL_JWT_SECRET": JWT_SECRET,
            "LOCAL_PUBLISHABLE_KEY": PUBLISHABLE_KEY,
            "LOCAL_SECRET_KEY": SECRET_KEY,
        }


@dataclass
class Deployment(Server):
    """The endpoints as they are deployed, but for E2B, which is not there: they can start no run."""

    supabase: str = ""
    factory = "local.api:create_app"
    ready_path = "/healthz"

    def environment(self) -> dict[str, str]:
        """Its settings."""
        return {
            "SANDSTREAM_URL": self.url,
            "SUPABASE_URL": self.supabase,
            "SUPABASE_PUBLISHABLE_KEY": PUBLISHABLE_KEY,
            "SUPABASE_SECRET_KEY": SECRET_KEY,
            "SUPABASE_JWT_SECRET": JWT_SECRET,
            "E2B_API_KEY": "e2b_0",
            "E2B_API_URL": "http://127.0.0.1:9",
        }


@dataclass
class Person:
    """Somebody who signed up."""

    supabase: Supabase
    http: httpx.AsyncClient
    id: str
    token: str
    email: str = ""

    def access(self, url: str | None = None) -> SupabaseAccess:
        """Supabase as this person, at another address if one is given."""

        async def token() -> str:
            return self.token

        return SupabaseAccess(url or self.supabase.url, PUBLISHABLE_KEY, token)

    def short_token(self, seconds: int) -> str:
        """Another token of this person's, that ends soon."""
        claims = jwt.decode(self.token, options={"verify_signature": False})
        return self.supabase.sign(claims | {"exp": int(time.time()) + seconds})

    def watch_token(self, session_id: str, seconds: int = 3600) -> str:
        """A token for one session of this person's, as the endpoints mint it."""
        claims = {"role": "watcher", "aud": "watcher", "sub": self.id, "session_id": session_id}
        return self.supabase.sign({**claims, "exp": int(time.time()) + seconds})

    async def admit(self, session_id: str | None = None) -> Writer:
        """A run of this person's, admitted but never launched: the test is its runner."""
        arguments = {
            "kind": "commands",
            "input": {"commands": [{"command": "true"}]},
            "limit_seconds": 600,
            "request_hash": hashlib.sha256(uuid.uuid4().bytes).hexdigest(),
            "session_id": session_id,
        }
        run = (await rpc(self.http, self.supabase.url, "admit_run_v1", self.token, arguments))["run"]
        claims = {"role": "runner", "aud": "runner", "sub": run["id"], "run_id": run["id"], "epoch": run["epoch"]}
        claims |= {"session_id": run["session_id"], "exp": int(time.time()) + 3600}
        return Writer(self.supabase, self.http, run["session_id"], run["id"], self.supabase.sign(claims))


@dataclass
class Writer:
    """The runner of one run, as far as the log is concerned."""

    supabase: Supabase
    http: httpx.AsyncClient
    session_id: str
    run_id: str
    token: str
    n: int = 0
    last_seq: int = 0

    async def append(self, count: int = 1, *, type: str = "command.output", size: int = 0) -> int:
        """Append so many events in one batch; the log's length afterwards."""
        events = [
            {"n": n, "type": type, "data": {"n": n, "text": "x" * size}, "at": "2026-11-21T08:00:00.123456Z"}
            for n in range(self.n + 1, self.n + count + 1)
        ]
        answer = await rpc(self.http, self.supabase.url, "append_events_v1", self.token, {"events": events})
        self.n += count
        assert answer["last_n"] == self.n
        self.last_seq = int(answer["last_seq"])
        return self.last_seq

    async def write(self, events: Sequence[Event]) -> int:
        """Append these, numbered anew, but for those that SQL writes itself; the log's length afterwards."""
        own = [event for event in events if not event.type.startswith(("run.", "session."))]
        batch = [
            {"n": n, "type": event.type, "data": event.data, "at": event.produced_at.isoformat()}
            for n, event in enumerate(own, self.n + 1)
        ]
        answer = await rpc(self.http, self.supabase.url, "append_events_v1", self.token, {"events": batch})
        self.n += len(batch)
        assert answer["last_n"] == self.n
        return int(answer["last_seq"])

    async def finish(self, status: str = "succeeded") -> int:
        """End the run; the log's length afterwards."""
        arguments = {"status": status, "last_n": self.n, "result": {}, "error": None}
        await rpc(self.http, self.supabase.url, "finish_run_v1", self.token, arguments)
        answer = await rpc(self.http, self.supabase.url, "heartbeat_v1", self.token, {})
        self.last_seq = int(answer["last_seq"])
        return self.last_seq


async def rpc(http: httpx.AsyncClient, url: str, function: str, token: str, arguments: dict[str, Any]) -> Any:
    """The answer of a SQL function."""
    headers = {"apikey": PUBLISHABLE_KEY, "Authorization": f"Bearer {token}"}
    answer = await http.post(f"{url}/rest/v1/rpc/{function}", json=arguments, headers=headers)
    assert answer.is_success, answer.text
    return answer.json()


@dataclass
class World:
    """All of it."""

    supabase: Supabase
    http: httpx.AsyncClient

    async def person(self) -> Person:
        """Somebody new."""
        email = f"{uuid.uuid4().hex}@example.com"
        answer = await self.http.post(
            f"{self.supabase.url}/auth/v1/signup",
            json={"email": email, "password": PASSWORD},
            headers={"apikey": PUBLISHABLE_KEY},
        )
        assert answer.is_success, answer.text
        body = answer.json()
        return Person(self.supabase, self.http, body["user"]["id"], body["access_token"], email)


@contextlib.contextmanager
def supabase(directory: Path) -> Iterator[Supabase]:
    """A running Supabase, with the project's migrations."""
    with Postgres(directory / "data", free_port()) as postgres:
        prepare(postgres.dsn(), PROJECT / "supabase")
        server = Supabase(directory / "supabase.log", dsn=postgres.dsn())
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextlib.asynccontextmanager
async def world_of(server: Supabase) -> AsyncIterator[World]:
    """The people's way to it."""
    async with httpx.AsyncClient(timeout=30) as http:
        yield World(server, http)
