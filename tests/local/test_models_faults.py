"""What a script makes go wrong, as Anthropic's SDK sees it."""

import asyncio
import json
import time

import anthropic
import httpx
import httpx2
import pytest

from tests.local.models_world import Models, asking, said

DEADLINE_SECONDS = 20.0
SEVEN = said("one two three four five six seven")
IMPATIENT_SECONDS = 0.4


async def heard(models: Models, prompt: str, got: list[str], timeout: float = 30) -> None:
    """Adds the text deltas of an answer to `got` as they arrive."""
    async with models.client(timeout=timeout) as client, client.messages.stream(**asking(prompt)) as stream:
        async for text in stream.text_stream:
            got.append(text)  # noqa: PERF401 what arrived before an error counts


async def before_the_break(models: Models, prompt: str, timeout: float = 30) -> list[str]:
    """What arrived before the stream broke with an error of the transport or of the API."""
    got: list[str] = []
    with pytest.raises((httpx2.TransportError, anthropic.APIError)):
        await heard(models, prompt, got, timeout)
    return got


async def outcomes(models: Models, prompt: str, count: int) -> list[str]:
    """How the answers to a prompt ended, as soon as there are `count` of them."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(noted := await models.ledger(prompt)) < count:
        assert time.monotonic() < deadline, noted
        await asyncio.sleep(0.02)
    return [entry["outcome"] for entry in noted]


@pytest.mark.parametrize(
    ("status", "error", "type"),
    [
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (529, anthropic.APIStatusError, "overloaded_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (400, anthropic.BadRequestError, "invalid_request_error"),
    ],
)
async def test_an_error_comes_as_anthropics(
    models: Models, status: int, error: type[anthropic.APIStatusError], type: str
) -> None:
    """Under its status, typed, with a request id, streamed or not; the ledger calls it failed."""
    prompt = models.follow({"error": {"status": status}})
    async with models.client() as client:
        for streamed in (False, True):
            with pytest.raises(error) as caught:
                await client.messages.create(**asking(prompt), stream=streamed)
            assert caught.value.status_code == status
            assert caught.value.body["error"]["type"] == type  # type: ignore[index] # the body is JSON
            assert caught.value.request_id
    assert await outcomes(models, prompt, 2) == ["failed", "failed"]


async def test_a_rate_limit_says_when_to_come_back(models: Models) -> None:
    """`retry-after` is a second unless the script says otherwise; other errors name none unless told to."""
    errors = [(429, None), (429, 7.5), (529, None), (529, 3)]
    async with models.http() as http:
        prompts = [models.follow({"error": {"status": status, "retry_after": after}}) for status, after in errors]
        answers = [await http.post("/v1/messages", json=asking(prompt)) for prompt in prompts]
    assert [answer.headers.get("retry-after") for answer in answers] == ["1", "7.5", None, "3"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_sdks_retries_reach_the_answer(models: Models, streamed: bool) -> None:
    """After as many errors as the script says the same request is answered; the ledger shows all of it."""
    prompt = models.follow({"error": {"status": 529, "times": 2, "retry_after": 0.01}, "content": [said("at last")]})
    async with models.client(retries=2) as client:
        if streamed:
            async with client.messages.stream(**asking(prompt)) as stream:
                message = await stream.get_final_message()
        else:
            message = await client.messages.create(**asking(prompt))
    assert message.content[0].model_dump(include={"text"}) == {"text": "at last"}
    assert await outcomes(models, prompt, 3) == ["failed", "failed", "complete"]


async def test_each_conversation_meets_the_error_anew(models: Models) -> None:
    """Two sessions that ask the same do not use up one another's errors, and a later request starts over."""
    prompt = models.follow({"error": {"status": 500, "times": 1}, "content": [said("fine")]})
    async with models.http() as http:

        async def status(session: str) -> int:
            headers = {"x-claude-code-session-id": session}
            return (await http.post("/v1/messages", json=asking(prompt), headers=headers)).status_code

        assert [await status(session) for session in "abab"] == [500, 500, 200, 200]
        assert [await status("a"), await status("a")] == [500, 200]
    assert {entry["session"] for entry in await models.ledger(prompt)} == {"a", "b"}


@pytest.mark.parametrize("deltas", [0, 1, 3, 7])
async def test_a_stream_is_cut_after_so_many_deltas(models: Models, deltas: int) -> None:
    """What came before is there, then the connection breaks; the ledger calls it cut."""
    prompt = models.follow({"content": [SEVEN], "cut_after": deltas})
    assert await before_the_break(models, prompt) == SEVEN["text"].replace(" ", " |").split("|")[:deltas]
    assert await outcomes(models, prompt, 1) == ["cut"]


async def test_a_cut_answer_comes_whole_the_next_time(models: Models) -> None:
    """`times` bounds every fault, not errors only."""
    prompt = models.follow({"content": [SEVEN], "cut_after": 2, "times": 1})
    assert len(await before_the_break(models, prompt)) == 2
    async with models.client() as client, client.messages.stream(**asking(prompt)) as stream:
        assert await stream.get_final_text() == SEVEN["text"]
    assert await outcomes(models, prompt, 2) == ["cut", "complete"]


async def test_an_answer_without_streaming_is_cut_too(models: Models) -> None:
    """Half of its bytes come."""
    prompt = models.follow({"content": [SEVEN], "cut_after": 1})
    async with models.http() as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.post("/v1/messages", json=asking(prompt))
    assert await outcomes(models, prompt, 1) == ["cut"]


async def test_a_stream_can_end_with_an_error_event(models: Models) -> None:
    """With an error and a place to cut, the error comes in the middle of the stream, as Anthropic's do."""
    prompt = models.follow({"content": [SEVEN], "cut_after": 2, "error": {"status": 529}})
    async with models.http() as http:
        answer = await http.post("/v1/messages", json={**asking(prompt), "stream": True})
    name, data = answer.text.strip().split("\n\n")[-1].split("\n")
    assert answer.status_code == 200
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"]["type"] == "overloaded_error"
    assert await before_the_break(models, prompt) == ["one ", "two "]
    assert await outcomes(models, prompt, 2) == ["failed", "failed"]


async def test_a_model_can_hang(models: Models) -> None:
    """Nothing comes, not even a status, until the client leaves; the next request is served meanwhile."""
    hanging, prompt = models.follow({"hang": True, "times": 1, "content": [SEVEN]}), models.follow({"content": [SEVEN]})
    async with models.client(timeout=IMPATIENT_SECONDS) as client:
        with pytest.raises(anthropic.APITimeoutError):
            await client.messages.create(**asking(hanging))
        await client.messages.create(**asking(prompt))
        await client.messages.create(**asking(hanging))
    assert await outcomes(models, hanging, 2) == ["hung", "complete"]


async def test_a_stream_can_fall_silent(models: Models) -> None:
    """With a place to cut, it is silence that comes there, on a connection that stays open."""
    prompt = models.follow({"hang": True, "cut_after": 3, "content": [SEVEN]})
    assert await before_the_break(models, prompt, IMPATIENT_SECONDS) == ["one ", "two ", "three "]
    assert await outcomes(models, prompt, 1) == ["hung"]


async def test_a_slow_stream_takes_its_time_between_deltas(models: Models) -> None:
    """No delta comes sooner after another than the script's delay."""
    prompt = models.follow({"content": [SEVEN], "delay_ms": 40})
    async with models.client() as client, client.messages.stream(**asking(prompt)) as stream:
        times = [time.monotonic() async for _ in stream.text_stream]
    # The first may have waited on the way while the second came; all of them together cannot be early.
    assert len(times) == 7
    assert times[-1] - times[0] >= 0.04 * 5


async def test_an_answer_that_nobody_waits_for_is_abandoned(models: Models) -> None:
    """A client that leaves in the middle, as an interrupt makes the CLI do, ends the answer; it is no complete one."""
    prompt = models.follow({"content": [said("word " * 500)], "delay_ms": 50})
    async with models.client() as client, client.messages.stream(**asking(prompt)) as stream:
        got = [await anext(stream.text_stream) for _ in range(2)]
    assert got == ["word ", "word "]
    assert await outcomes(models, prompt, 1) == ["abandoned"]
