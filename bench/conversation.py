"""Conversations: from a person's words to what is seen of the answer, and what live text costs in broadcasts."""

import secrets
import time
from typing import Any

import psycopg

from bench.people import Bench, percentiles
from local.stack import Stack

SESSIONS = 8
TOKENS = 1000
# 80 deltas a second.
DELAY_MS = 12.5
AT_REST = "session.status_idle"


async def measure(bench: Bench) -> list[tuple[str, str]]:
    """Sessions of two turns, one after the other, then one long answer. The model answers at once."""
    await first_and_second(bench)
    pairs = [await first_and_second(bench) for _ in range(SESSIONS)]
    return [
        *figures("first turn", [first for first, _ in pairs]),
        *figures("follow-up", [second for _, second in pairs]),
        (f"previews for {TOKENS} deltas, 80 a second", f"{await broadcasts(bench)} broadcasts"),
    ]


def figures(name: str, turns: list[dict[str, float]]) -> list[tuple[str, str]]:
    """The percentiles of each milestone, from the request on."""
    return [(f"{name}: request → {what}", percentiles([turn[what] for turn in turns])) for what in turns[0]]


async def first_and_second(bench: Bench) -> tuple[dict[str, float], dict[str, float]]:
    """The milestones of a session's first turn, in a new sandbox, and of its second, in the same."""
    word = answering(bench.stack, "It is done.")
    began = time.perf_counter()
    started = await bench.client.create_session(word)
    first = await milestones(bench, started.id, 0, began)
    after = (await bench.client.session(started.id)).last_seq
    began = time.perf_counter()
    await bench.client.send(started.id, word)
    return first, await milestones(bench, started.id, after, began)


async def milestones(bench: Bench, session_id: Any, after: int, began: float) -> dict[str, float]:
    """Milliseconds until the request was answered, the turn ran, its words came, and it ended."""
    seen = {"answer": (time.perf_counter() - began) * 1000}
    async for event in bench.client.watch(session_id, after=after):
        seen.setdefault(event.type, (time.perf_counter() - began) * 1000)
        if event.type == AT_REST:
            break
    return {name: seen[name] for name in ("answer", "session.status_running", "agent.message", AT_REST)}


async def broadcasts(bench: Bench) -> int:
    """How many messages of Realtime the previews of one long answer take."""
    word = answering(bench.stack, "word " * TOKENS, delay_ms=DELAY_MS)
    started = await bench.client.create_session(word)
    await milestones(bench, started.id, 0, time.perf_counter())
    query = "select count(*) from realtime.messages where topic = %s and event = 'previews'"
    with psycopg.connect(bench.stack.postgres.dsn()) as connection:
        row = connection.execute(query, (f"session:{started.id}",)).fetchone()
    return row[0] if row else 0


def answering(stack: Stack, text: str, **more: Any) -> str:
    """Teaches the model an answer; the word that a prompt has to hold for it."""
    word = f"case-{secrets.token_hex(6)}"
    turn = {"content": [{"type": "text", "text": text}], **more}
    stack.script_model(word, {"when": {"prompt": word}, "turns": [turn]})
    return word
