"""A tail: what it holds for its readers, and when it says that it does not reach back so far."""

import asyncio
import json
import time
from datetime import UTC, datetime
from uuid import uuid4

import jwt
import pytest

from functions.errors import NotAuthenticated
from functions.events import as_wire
from functions.streams import TAIL_BYTES, TAIL_EVENTS, Line, Tail, encode
from sandstream.events import Event

FAR = time.time() + 3600


def line(seq: int) -> Line:
    return Line(seq, b"%d" % seq)


def filled(*seqs: int, after: int = 0) -> Tail:
    tail = Tail(after)
    for seq in seqs:
        tail.add(line(seq))
    return tail


def token(expires_in: float) -> str:
    return jwt.encode({"exp": int(time.time() + expires_in)}, "x" * 32)


def test_a_reader_gets_what_comes_after_its_place() -> None:
    """In order, from the next on."""
    assert [found.seq for found in filled(1, 2, 3).since(1) or []] == [2, 3]


def test_a_reader_at_the_end_gets_nothing() -> None:
    """Nothing is not the same as unknown."""
    assert filled(1, 2).since(2) == []
    assert filled(after=9).since(9) == []


def test_a_tail_does_not_pretend_to_know_the_beginning() -> None:
    """A reader from before its first line is sent to the table, also when lines have fallen out of it."""
    assert filled(5, after=4).since(3) is None
    assert filled(after=9).since(3) is None
    long = filled(*range(1, TAIL_EVENTS + 2))
    assert long.since(0) is None
    assert len(long.since(1) or []) == TAIL_EVENTS


def test_a_tail_is_bounded_in_bytes() -> None:
    """Large events push older ones out: what a session's tail holds is not up to those who write it."""
    tail = Tail(0)
    for seq in range(1, 21):
        tail.add(Line(seq, b"x" * (TAIL_BYTES // 10)))
    assert tail.since(9) is None
    assert [found.seq for found in tail.since(10) or []] == list(range(11, 21))


async def test_growth_wakes_every_reader() -> None:
    """All who wait are woken by one new line."""
    tail = filled(1)
    waiting = [asyncio.create_task(tail.growth(1, FAR)) for _ in range(10)]
    await asyncio.sleep(0)
    tail.add(line(2))
    assert await asyncio.gather(*waiting) == [True] * 10


async def test_the_end_wakes_every_reader() -> None:
    """Nothing more will come: nobody is left waiting."""
    tail = filled(1)
    waiting = asyncio.create_task(tail.growth(1, FAR))
    await asyncio.sleep(0)
    tail.end()
    assert await waiting
    assert tail.ended


async def test_a_preview_wakes_those_who_asked_for_it() -> None:
    """The others sleep on."""
    tail = filled(1)
    asking = asyncio.create_task(tail.growth(1, FAR, tail.drafts.last))
    silent = asyncio.create_task(tail.growth(1, FAR))
    await asyncio.sleep(0)
    tail.hear([{"type": "event_start", "event": {"type": "agent.message", "id": "sevt_1"}}])
    assert await asking
    assert not silent.done()
    tail.end()
    assert await silent


def test_an_event_is_one_message_that_the_sdk_does_not_pass_over() -> None:
    """It has a name, an id and one line of data, whatever its text holds."""
    now = datetime.now(UTC)
    event = Event(
        seq=3, session_id=uuid4(), type="agent.message", data={"text": "a\n\ndata: b\r\x85\u2028\u2029"},
        produced_at=now, created_at=now,
    )  # fmt: skip
    lines = encode(event).message.decode().split("\n")
    assert lines[:2] == ["event: message", "id: 3"]
    assert lines[3:] == ["", ""]
    assert json.loads(lines[2].removeprefix("data: ")) == as_wire(event)
    assert len(lines[2].splitlines()) == 1


async def test_a_reader_does_not_outlive_its_token() -> None:
    """Waiting ends when the reader's token does."""
    assert await filled(1).growth(1, time.time() - 1) is False


async def test_the_freshest_token_is_used() -> None:
    """With several readers the tail reads as the one who may read longest; with none it reads no more."""
    tail = Tail(0)
    with pytest.raises(NotAuthenticated):
        await tail.token()
    short, long = token(60), token(600)
    for each in (short, long, short):
        tail.admit(each)
    assert await tail.token() == long
    assert tail.readers == 3
