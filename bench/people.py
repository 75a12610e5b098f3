"""Who measures: a user of a stack, runs that nobody drives, and tokens for them."""

import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import jwt

from local.stack import Stack, demo_user
from sandstream.client import Sandstream


@dataclass(frozen=True)
class Bench:
    """A stack, a user of it, and plain HTTP as that user."""

    stack: Stack
    token: str
    client: Sandstream
    http: httpx.AsyncClient

    async def admit(self) -> dict[str, Any]:
        """A run that is admitted and not launched."""
        arguments = {"kind": "commands", "input": {}, "limit_seconds": 3600, "request_hash": secrets.token_hex(32)}
        headers = {"apikey": self.stack.keys.publishable_key, "Authorization": f"Bearer {self.token}"}
        url = f"{self.stack.supabase.url}/rest/v1/rpc/admit_run_v1"
        answer = await self.http.post(url, json=arguments, headers=headers)
        answer.raise_for_status()
        run: dict[str, Any] = answer.json()["run"]
        return run

    def run_token(self, run: dict[str, Any]) -> str:
        """What the endpoints would mint for the run."""
        key = jwt.PyJWK(json.loads(self.stack.keys.signing_key), "ES256")
        claims = {
            "role": "runner",
            "aud": "runner",
            "run_id": run["id"],
            "session_id": run["session_id"],
            "epoch": 1,
            "exp": int(time.time()) + 3600,
        }
        return jwt.encode(claims, key.key, "ES256", headers={"kid": key.key_id})


@asynccontextmanager
async def opened(stack: Stack) -> AsyncIterator[Bench]:
    """A fresh user of the stack."""
    token = demo_user(stack.addresses)
    async with Sandstream(stack.api.url, token) as client, httpx.AsyncClient(timeout=120) as http:
        yield Bench(stack, token, client, http)


def percentiles(values: list[float], unit: str = "ms") -> str:
    """`p50 x, p95 y`."""
    ordered = sorted(values)
    p50, p95 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    return f"p50 {p50:.1f} {unit}, p95 {p95:.1f} {unit} (n={len(ordered)})"
