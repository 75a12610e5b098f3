"""A tail: what it holds for its readers, and when it says that it does not reach back so far."""

import asyncio
import time

import jwt
import pytest

from functions.errors import NotAuthenticated
from functions.streams import TAIL_BYTES, TAIL_EVENTS, Line, Tail

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
