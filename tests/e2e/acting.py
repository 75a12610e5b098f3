"""A conversation whose runner is the test: admitted straight in SQL, never launched, driven with a run token."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt

from local.stack import Stack
from tests.conftest import Person

Json = dict[str, Any]
AGENT = {"id": "default", "version": 1, "type": "agent", "name": "Claude", "model": {"id": "claude-sonnet-5"}}
ENVIRONMENT = {"name": "default", "description": "", "config": {"type": "cloud"}, "metadata": {}, "scope": None}


def message(text: str) -> Json:
    """A user.message of one text."""
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def start(id: str, type: str = "agent.message") -> Json:
    """The preview that opens an event."""
    return {"type": "event_start", "event": {"type": type, "id": id}}


def delta(id: str, text: str) -> Json:
    """The preview of some more of its text."""
    content = {"type": "content_delta", "index": 0, "content": {"type": "text", "text": text}}
    return {"type": "event_delta", "event_id": id, "delta": content}


class Actor:
    """The runner of a conversation, as far as the log is concerned."""

    def __init__(self, stack: Stack, owner: httpx.AsyncClient, runner: httpx.AsyncClient) -> None:
        self._stack = stack
        self._owner = owner
        self._runner = runner
        self.session_id = ""
        self.run: Json = {}
        self._n = 0

    async def create(self, *texts: str) -> None:
        """A session; with texts a run as well."""
        arguments = {
            "agent": AGENT,
            "environment_id": "default",
            "environment": ENVIRONMENT,
            "request_hash": "0" * 64,
            "events": [message(text) for text in texts],
            "limit_seconds": 600,
        }
        self._take(await self._rpc(self._owner, "create_session_v1", **arguments))

    async def say(self, text: str) -> None:
        """Another message, which admits a run when none is live."""
        arguments = {"session_id": self.session_id, "events": [message(text)], "limit_seconds": 600}
        self._take(await self._rpc(self._owner, "send_events_v1", request_hash="0" * 64, **arguments))

    async def append(self, type: str, **data: Any) -> int:
        """One event; the length of the log with it."""
        self._n += 1
        event = {"n": self._n, "type": type, "data": data, "at": "2026-01-01T00:00:00Z"}
        return int((await self._rpc(self._runner, "append_events_v1", events=[event]))["last_seq"])

    async def preview(self, *items: Json) -> None:
        """What is about to be said."""
        await self._rpc(self._runner, "preview_v1", previews=list(items))

    async def take(self) -> None:
        """All messages so far."""
        await self._rpc(self._runner, "take_input_v1", after=0)

    async def finish(self, status: str = "succeeded") -> None:
        """The end of the run."""
        await self.take()
        await self._rpc(self._runner, "finish_run_v1", status=status, last_n=self._n, result={}, error=None)

    async def end(self, function: str) -> None:
        """`archive_session_v1` or `delete_session_v1`."""
        await self._rpc(self._owner, function, session_id=self.session_id, request_hash="0" * 64)

    def token(self) -> str:
        """The run's token, as the endpoints mint it."""
        claims = {"run_id": self.run["id"], "session_id": self.session_id, "epoch": self.run["epoch"]}
        known = {"role": "runner", "aud": "runner", "iss": "sandstream", "exp": int(time.time()) + 600}
        key = jwt.PyJWK(json.loads(self._stack.keys.signing_key), "ES256")
        return jwt.encode({**claims, **known}, key.key, "ES256", headers={"kid": key.key_id})

    def _take(self, answer: Json) -> None:
        self.session_id = answer["session"]["id"]
        if answer["admitted"]:
            self.run, self._n = answer["run"], 0
            self._runner.headers["Authorization"] = f"Bearer {self.token()}"

    async def _rpc(self, http: httpx.AsyncClient, function: str, **arguments: Any) -> Any:
        answer = await http.post(f"/rpc/{function}", json=arguments)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None


@asynccontextmanager
async def acting(stack: Stack, owner: Person, *texts: str) -> AsyncIterator[Actor]:
    """A new conversation of the owner's."""
    headers = {"apikey": stack.keys.publishable_key}
    url = f"{stack.supabase.url}/rest/v1"
    async with owner.tables() as tables, httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as runner:
        actor = Actor(stack, tables, runner)
        await actor.create(*texts)
        yield actor
