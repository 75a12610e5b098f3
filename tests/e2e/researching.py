"""Questions from a test: what the scripted model plans and answers, and tasks that are answered without a sandbox."""

import json
import time
from typing import Any

import httpx
import jwt

from functions.embeddings import Embedding, Embeddings
from local.stack import Stack
from tests.conftest import Person
from tests.e2e.sweeping import settings

Json = dict[str, Any]


def step(command: str, *needs: int, timeout: int = 20, retryable: bool = False) -> Json:
    """A step of a plan."""
    return {
        "command": command,
        "description": "a step",
        "timeout_seconds": timeout,
        "retryable": retryable,
        "expected_output": "something",
        "needs": list(needs),
    }


def plan(*steps: Json, cost_microusd: int = 10_000, duration: int = 5) -> str:
    """A plan as the model says it."""
    return json.dumps(
        {
            "steps": list(steps),
            "estimated_duration_seconds": duration,
            "estimated_cost_microusd": cost_microusd,
            "risk": "low",
            "fallback": "say what is known",
        }
    )


def answer(text: str, step: int = 0, value: str = "42") -> str:
    """An answer as the model says it, with one fact of one step."""
    fact = {"kind": "number", "name": "it", "value": value, "unit": None, "step": step}
    return json.dumps({"answer": text, "citations": [{"step": step, "source": None}], "facts": [fact]})


def turn(text: str) -> Json:
    """What the model says to one request."""
    return {"content": [{"type": "text", "text": text}]}


def scripts(words: str, planned: Json, answered: Json | None = None, revised: Json | None = None) -> list[Json]:
    """Scripts for questions with these words (a regular expression)."""
    prompt = f"^Question: .*{words}"
    found = [{"when": {"system": "^You answer", "prompt": prompt}, "turns": [answered]}] if answered else []
    if revised is not None:
        found.append(
            {"when": {"system": "^You plan", "prompt": f"(?s){prompt}.*(was refused|failed)"}, "turns": [revised]}
        )
    return [*found, {"when": {"system": "^You plan", "prompt": prompt}, "turns": [planned]}]


async def embedded(stack: Stack, text: str) -> Embedding:
    """The text as the stack's embedding model places it."""
    async with httpx.AsyncClient() as http:
        return await Embeddings(settings(stack), http).of(text)


class Scholar:
    """Tasks of one person whose runner is the test: admitted straight in SQL, never launched."""

    def __init__(self, stack: Stack, person: Person) -> None:
        self._stack = stack
        self._person = person

    async def remember(self, query: str, context: tuple[str, ...] = (), said: str = "It is 42.") -> str:
        """A task with this question, completed; its id."""
        found = await embedded(self._stack, query)
        arguments = {
            "query": query,
            "context": list(context),
            "options": {},
            "input": {},
            "question_hash": "0" * 64,
            "limit_seconds": 60,
            "is_cut": False,
            "request_hash": "0" * 64,
            "is_shared": False,
            "embedding": str(found),
            "embedding_model": found.model,
        }
        async with self._person.tables() as http:
            admitted = await rpc(http, "admit_research_v1", **arguments)
        await self._answer(admitted["run"], said)
        return str(admitted["task"]["id"])

    async def _answer(self, run: Json, said: str) -> None:
        data = {"answer": said, "citations": [], "facts": [], "model": "none"}
        event = {"n": 1, "type": "research.answer", "data": data, "at": "2026-01-01T00:00:00Z"}
        headers = {"apikey": self._stack.keys.publishable_key, "Authorization": f"Bearer {self._token(run)}"}
        url = f"{self._stack.supabase.url}/rest/v1"
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as runner:
            await rpc(runner, "append_events_v1", events=[event])
            await rpc(runner, "finish_run_v1", status="succeeded", last_n=1, result={}, error=None)

    def _token(self, run: Json) -> str:
        claims = {"run_id": run["id"], "session_id": run["session_id"], "epoch": run["epoch"]}
        known = {"role": "runner", "aud": "runner", "iss": "sandstream", "exp": int(time.time()) + 600}
        key = jwt.PyJWK(json.loads(self._stack.keys.signing_key), "ES256")
        return jwt.encode({**claims, **known}, key.key, "ES256", headers={"kid": key.key_id})


async def rpc(http: httpx.AsyncClient, function: str, **arguments: Any) -> Any:
    """A call of a SQL function, which is expected to do it."""
    told = await http.post(f"/rpc/{function}", json=arguments)
    assert told.is_success, told.text
    return told.json() if told.content else None
