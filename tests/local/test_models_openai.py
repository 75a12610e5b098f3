"""The scripted model in OpenAI's wire: its SDK reads from it what a script says, and what goes wrong."""

import re
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

from tests.local.models_world import Models, asking, called, chatting, said

CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}


class Part(BaseModel):
    """Something within a reply."""

    name: str
    needs: list[int]


class Reply(BaseModel):
    """A reply in a form that was asked for."""

    parts: list[Part]
    note: str | None


SAID = {"parts": [{"name": "look «it» up", "needs": []}, {"name": "compare", "needs": [0]}], "note": None}


def as_json(value: Any) -> dict[str, Any]:
    """A block of a script that is said as JSON."""
    return {"type": "json", "value": value}


def strictly(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": schema}}


async def test_the_sdk_parses_a_reply_of_a_form(models: Models) -> None:
    """What the script holds as JSON arrives as the model that was asked for, on OpenAI's wire."""
    prompt = models.follow({"content": [as_json(SAID)]})
    async with models.openai() as client:
        completion = await client.chat.completions.parse(**chatting(prompt), response_format=Reply)
    choice = completion.choices[0]
    assert choice.message.parsed == Reply.model_validate(SAID)
    assert (choice.finish_reason, choice.message.refusal) == ("stop", None)
    assert re.fullmatch(r"chatcmpl-\w{24}", completion.id)
    assert completion.model == "scripted-planner"


async def test_the_same_script_parses_on_anthropics_wire(models: Models) -> None:
    """Structured output of Anthropic's SDK is answered by the same file."""
    prompt = models.follow({"content": [as_json(SAID)]})
    async with models.client() as client:
        message = await client.messages.parse(**asking(prompt), output_format=Reply)
    assert message.parsed_output == Reply.model_validate(SAID)


async def test_scripts_are_matched_by_system_and_prompt(models: Models) -> None:
    """A script may wait for a system prompt, which may be the developer's, and for words of the newest message."""
    prompt = models.follow({"content": [said("it")]})
    path = models.scripts / f"{prompt}.json"
    path.write_text(path.read_text().replace('"prompt":', '"system": "^You answer", "prompt":'))
    async with models.openai() as client:
        texts = []
        for role, system in (("system", "You plan"), ("system", "You answer"), ("developer", "You answer")):
            messages: list[Any] = [{"role": role, "content": system}, {"role": "user", "content": prompt}]
            answer = await client.chat.completions.create(model="m", messages=messages)
            texts.append(answer.choices[0].message.content == "it")
    assert texts == [False, True, True]


async def test_a_conversation_takes_turns(models: Models) -> None:
    """Answers since the newest prompt count; a refusal that is sent back has no content."""
    prompt = models.follow({"content": [said("one")]}, {"content": [said("two")]})
    messages: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": prompt}]},
        {"role": "assistant", "content": None, "refusal": "No."},
    ]
    async with models.openai() as client:
        answer = await client.chat.completions.create(model="m", messages=messages)
    assert answer.choices[0].message.content == "two"


async def test_figures_come_from_the_prompt(models: Models) -> None:
    """`{{prompt:…}}` is what the newest prompt says; what it does not say is not made up, and quotes stay JSON."""
    figure, missing = r'{{prompt:price: "([0-9.]+)"}}', r"{{prompt:(?s)absent.*}}"
    prompt = models.follow({"content": [as_json({"parts": [{"name": figure, "needs": []}], "note": missing})]})
    async with models.openai() as client:
        asked = chatting(f'{prompt}\nprice: "12.5"\n{{"x": "absent"\n"quoted"}}')
        completion = await client.chat.completions.parse(**asked, response_format=Reply)
    assert completion.choices[0].message.parsed == Reply.model_validate(
        {"parts": [{"name": "12.5", "needs": []}], "note": 'absent"\n"quoted"}'}
    )
    async with models.openai() as client:
        completion = await client.chat.completions.parse(**chatting(prompt), response_format=Reply)
    assert completion.choices[0].message.parsed == Reply.model_validate(
        {"parts": [{"name": "(not found)", "needs": []}], "note": "(not found)"}
    )


async def test_tokens_are_told_in_openais_names(models: Models) -> None:
    """What was read from a cache is part of the prompt, and told beside it; the ledger has Anthropic's names."""
    usage = {"input_tokens": 70, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 5, "output_tokens": 8}
    prompt = models.follow({"content": [said("x")], "usage": usage})
    async with models.openai() as client:
        completion = await client.chat.completions.create(**chatting(prompt))
    used = completion.usage
    assert used is not None
    assert (used.prompt_tokens, used.completion_tokens, used.total_tokens) == (105, 8, 113)
    assert used.prompt_tokens_details is not None
    assert (used.prompt_tokens_details.cached_tokens, used.prompt_tokens_details.cache_write_tokens) == (30, 5)
    noted = (await models.ledger(prompt))[0]
    assert usage.items() <= noted["usage"].items()
    assert (noted["outcome"], noted["model"]) == ("complete", "scripted-planner")


async def test_a_refusal_is_no_content(models: Models) -> None:
    """The stop reason `refusal` is a message's refusal on OpenAI's wire, and a stop reason on Anthropic's."""
    prompt = models.follow({"content": [said("I would rather not.")], "stop_reason": "refusal"})
    async with models.openai() as client:
        completion = await client.chat.completions.parse(**chatting(prompt), response_format=Reply)
    message = completion.choices[0].message
    assert (message.content, message.refusal, message.parsed) == (None, "I would rather not.", None)
    async with models.client() as client:
        assert (await client.messages.create(**asking(prompt))).stop_reason == "refusal"


async def test_a_reply_that_was_cut_short_says_so(models: Models) -> None:
    """`max_tokens` is `length` in OpenAI's words, which its SDK does not parse."""
    prompt = models.follow({"content": [said('{"parts": [')], "stop_reason": "max_tokens"})
    async with models.openai() as client:
        completion = await client.chat.completions.create(**chatting(prompt))
        assert completion.choices[0].finish_reason == "length"
        with pytest.raises(openai.LengthFinishReasonError):
            await client.chat.completions.parse(**chatting(prompt), response_format=Reply)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (529, openai.InternalServerError),
    ],
)
async def test_errors_have_openais_form(models: Models, status: int, error: type[openai.APIStatusError]) -> None:
    """The SDK raises the error of the status, and reads its message."""
    prompt = models.follow({"error": {"status": status, "message": "not now"}})
    async with models.openai() as client:
        with pytest.raises(error, match="not now") as caught:
            await client.chat.completions.create(**chatting(prompt))
    assert caught.value.request_id
    assert isinstance(caught.value.body, dict)
    assert caught.value.body.keys() == {"message", "type", "param", "code"}


async def test_faults_end(models: Models) -> None:
    """An error that meets two requests, and a connection that is cut, are behind a client that tries again."""
    limited = models.follow({"error": {"status": 429, "retry_after": 0, "times": 2}, "content": [said("at last")]})
    cut = models.follow({"cut_after": 0, "times": 1, "content": [said("whole")]})
    async with models.openai(retries=2) as client:
        texts = [(await client.chat.completions.create(**chatting(prompt))).choices for prompt in (limited, cut)]
    assert [choices[0].message.content for choices in texts] == ["at last", "whole"]
    assert [noted["outcome"] for noted in await models.ledger(cut)] == ["cut", "complete"]


async def test_a_silent_model_is_given_up(models: Models) -> None:
    """`hang` says nothing at all; only the client's patience ends it."""
    prompt = models.follow({"hang": True, "content": [said("never")]})
    async with models.openai(timeout=0.2) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(**chatting(prompt))


async def test_only_the_stacks_key_is_answered(models: Models) -> None:
    """401 in OpenAI's form, with the word that its clients go by."""
    async with models.openai(api_key="sk-other") as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.chat.completions.create(**chatting("x"))
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stream": True}, "as a whole"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "y"}]}, "messages.0.role"),
        ({"response_format": strictly(CLOSED)}, "required"),
        ({"response_format": strictly({**CLOSED, "required": ["a"], "oneOf": []})}, "oneOf"),
    ],
)
async def test_what_it_does_not_do_it_refuses(models: Models, changes: dict[str, Any], says: str) -> None:
    """400, with what it is: streams, other roles, and schemas that OpenAI refuses too."""
    async with models.openai() as client:
        with pytest.raises(openai.BadRequestError, match=re.escape(says)):
            await client.chat.completions.create(**{**chatting("x"), **changes})


async def test_a_script_that_calls_tools_is_no_completion(models: Models) -> None:
    """400 with the reason: only Anthropic's wire has tool calls here."""
    prompt = models.follow({"content": [called("Bash", command="true")]})
    async with models.openai() as client:
        with pytest.raises(openai.BadRequestError, match="calls tools"):
            await client.chat.completions.create(**chatting(prompt))


async def test_anthropic_refuses_a_schema_with_limits(models: Models) -> None:
    """As the real API does; its SDK's `parse` moves them into the description."""
    schema = {**CLOSED, "properties": {"a": {"type": "number", "minimum": 0}}}
    config: Any = {"format": {"type": "json_schema", "schema": schema}}
    async with models.client() as client:
        with pytest.raises(anthropic.BadRequestError, match=r"schema\.properties\.a: 'minimum'"):
            await client.messages.create(**asking("x"), output_config=config)


async def test_both_sdks_list_the_models(models: Models) -> None:
    """The planner and the embedding model among them."""
    async with models.openai() as ours, models.client() as theirs:
        listed = [model.id async for model in ours.models.list()]
        assert listed == [model.id async for model in theirs.models.list()]
    assert {"scripted-planner", "multilingual-e5-small"} < set(listed)
