"""Answers held against the official SDK's own types."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from anthropic import APIStatusError, AsyncAnthropic
from anthropic.types.beta import (
    BetaEnvironment,
    BetaManagedAgentsAgent,
    BetaManagedAgentsSession,
    BetaManagedAgentsSessionStats,
    BetaManagedAgentsSessionUsage,
)
from pydantic import BaseModel, TypeAdapter

from tests.conftest import Person

Json = dict[str, Any]


@asynccontextmanager
async def sdk(person: Person) -> AsyncIterator[AsyncAnthropic]:
    """The official client with our address, as this person; it repeats what it repeats by default."""
    async with AsyncAnthropic(base_url=person.stack.api.url, auth_token=person.token) as client:
        yield client


def exact(kind: type[BaseModel], answer: BaseModel | Json) -> Json:
    """The answer's JSON, which has every field of the SDK's type, the optional ones too, and each of its own kind."""
    sent: Json = answer if isinstance(answer, dict) else json.loads(answer.to_json())  # type: ignore[attr-defined]
    TypeAdapter(kind).validate_json(json.dumps(sent), strict=True)
    assert set(kind.model_fields) <= set(sent), set(kind.model_fields) - set(sent)
    return sent


def agent(answer: BaseModel | Json) -> Json:
    """An agent as the SDK knows it."""
    return exact(BetaManagedAgentsAgent, answer)


def environment(answer: BaseModel | Json) -> Json:
    """An environment as the SDK knows it."""
    return exact(BetaEnvironment, answer)


def session(answer: BaseModel | Json) -> Json:
    """A session as the SDK knows it."""
    sent = exact(BetaManagedAgentsSession, answer)
    exact(BetaManagedAgentsSessionUsage, sent["usage"])
    exact(BetaManagedAgentsSessionStats, sent["stats"])
    return sent


def error(refused: APIStatusError) -> Json:
    """What a refusal says: `{"type", "message", "param"?}`."""
    body: Any = refused.body
    told: Json = body["error"]
    return told


def plain(answer: httpx.Response, status: int) -> Json:
    """The error of a refusal that came by plain HTTP."""
    assert answer.status_code == status, answer.text
    told: Json = answer.json()["error"]
    return told
