"""With a real key the models part steps aside: another one stands for the real API here."""

from collections.abc import Iterator
from pathlib import Path

import anthropic
import openai
import pytest

from local.models.app import create_app
from local.models.settings import ModelSettings
from local.stack import Stack, free_port
from tests.conftest import CANARY_MODEL_KEY
from tests.local.models_world import Models, asking, chatting, models_at, said


@pytest.fixture(scope="module")
def forwarding(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    """A part that knows no scripts and whose operator has an account at `models`."""
    upstream = {"LOCAL_MODEL_UPSTREAM_KEY": models.key, "LOCAL_MODEL_UPSTREAM_URL": models.url}
    with models_at(tmp_path_factory.mktemp("forwarding"), **upstream) as served:
        yield served


async def test_the_real_key_takes_the_place_of_ours(models: Models, forwarding: Models) -> None:
    """Who has the local key is answered by the real API; the real key is not theirs to know, nor good for us."""
    prompt = models.follow({"content": [said("from afar")]})
    async with forwarding.client() as client:
        answer = await client.messages.create(**asking(prompt))
    assert answer.content[0].model_dump(include={"text"}) == {"text": "from afar"}
    assert [entry["message_id"] for entry in await models.ledger(prompt)] == [answer.id]
    async with forwarding.client(api_key=models.key) as client:
        with pytest.raises(anthropic.AuthenticationError):
            await client.messages.create(**asking(prompt))


async def test_a_stream_is_handed_on_as_it_comes(models: Models, forwarding: Models) -> None:
    """The first words are here while the upstream still hangs over the rest."""
    prompt = models.follow({"content": [said("one two three")], "cut_after": 2, "hang": True})
    async with forwarding.client() as client, client.messages.stream(**asking(prompt)) as stream:
        assert [await anext(stream.text_stream) for _ in range(2)] == ["one ", "two "]


async def test_errors_and_queries_pass_unchanged(models: Models, forwarding: Models) -> None:
    """Status, `retry-after` and body of the upstream's error, and a path with its query."""
    prompt = models.follow({"error": {"status": 429, "retry_after": 9}})
    async with forwarding.http() as http:
        refused = await http.post("/v1/messages?beta=true", json=asking(prompt))
        listed = await http.get("/v1/models?limit=1")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "9")
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert listed.json()["data"]


async def test_a_cut_upstream_is_a_cut_answer(models: Models, forwarding: Models) -> None:
    """A stream that breaks above does not look finished below."""
    prompt = models.follow({"content": [said("one two three")], "cut_after": 1})
    async with forwarding.client() as client:
        with pytest.raises(Exception, match=r"closed|incomplete|Connection"):
            async with client.messages.stream(**asking(prompt)) as stream:
                await stream.get_final_message()


async def test_an_upstream_that_is_not_there(tmp_path: Path) -> None:
    """502 in Anthropic's form."""
    upstream = {"LOCAL_MODEL_UPSTREAM_KEY": "k", "LOCAL_MODEL_UPSTREAM_URL": f"http://127.0.0.1:{free_port()}"}
    with models_at(tmp_path / "lost", **upstream) as served:
        async with served.client() as client:
            with pytest.raises(anthropic.InternalServerError, match="cannot be reached"):
                await client.messages.create(**asking("x"))


@pytest.fixture(scope="module")
def forwarding_openai(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    """The same for an account at OpenAI, which `models` stands for."""
    upstream = {"LOCAL_MODEL_OPENAI_KEY": models.key, "LOCAL_MODEL_OPENAI_URL": f"{models.url}/v1/"}
    with models_at(tmp_path_factory.mktemp("forwarding_openai"), **upstream) as served:
        yield served


async def test_openais_paths_go_to_openai(models: Models, forwarding_openai: Models) -> None:
    """With its own key, also for embeddings; who has another key than ours is refused here."""
    prompt = models.follow({"content": [said("from afar")]})
    async with forwarding_openai.openai() as client:
        completion = await client.chat.completions.create(**chatting(prompt))
        assert completion.choices[0].message.content == "from afar"
        with pytest.raises(openai.NotFoundError) as caught:
            await client.embeddings.create(model="text-embedding-3-small", input="x")
    assert caught.value.code == "model_not_found"
    assert len(await models.ledger(prompt)) == 1
    async with forwarding_openai.openai(api_key=models.key) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(**chatting(prompt))


async def test_each_account_is_for_its_own_paths(forwarding: Models, forwarding_openai: Models) -> None:
    """A key for one API leaves the other one scripted."""
    content = {"content": [said("from a file")]}
    anthropics, openais = forwarding_openai.follow(content), forwarding.follow(content)
    async with forwarding_openai.client() as client:
        assert (await client.messages.create(**asking(anthropics))).content[0].model_dump()["text"] == "from a file"
    async with forwarding.openai() as client:
        completion = await client.chat.completions.create(**chatting(openais))
    assert completion.choices[0].message.content == "from a file"


async def test_openai_that_is_not_there(tmp_path: Path) -> None:
    """502 in OpenAI's form."""
    upstream = {"LOCAL_MODEL_OPENAI_KEY": "k", "LOCAL_MODEL_OPENAI_URL": f"http://127.0.0.1:{free_port()}/v1"}
    with models_at(tmp_path / "lost", **upstream) as served:
        async with served.openai() as client:
            with pytest.raises(openai.InternalServerError, match="cannot be reached"):
                await client.chat.completions.create(**chatting("x"))


def test_the_operators_openai_key_reaches_the_models_part_alone(tmp_path: Path) -> None:
    """The endpoints have the local key and address, and no name of a scripted model: their own defaults count."""
    operator = {"OPENAI_API_KEY": CANARY_MODEL_KEY, "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    stack = Stack(tmp_path, operator)
    try:
        models, api, e2b = stack.models_environment(), stack.api_environment(), stack.e2b_environment()
    finally:
        stack.stop()
    assert models["LOCAL_MODEL_OPENAI_KEY"] == CANARY_MODEL_KEY
    assert models["LOCAL_MODEL_OPENAI_URL"] == "http://127.0.0.1:9/v1"
    assert api["OPENAI_BASE_URL"] == f"{stack.models.url}/v1"
    assert api["OPENAI_API_KEY"] == stack.keys.model_key
    assert not {"RESEARCH_MODEL", "EMBEDDING_MODEL"} & api.keys()
    assert CANARY_MODEL_KEY not in (*api.values(), *e2b.values())


def test_the_operators_key_reaches_the_models_part_alone(tmp_path: Path) -> None:
    """There it has a name of its own; the endpoints, and so the sandboxes, have the local key."""
    operator = {"ANTHROPIC_API_KEY": CANARY_MODEL_KEY, "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
    stack = Stack(tmp_path, operator)
    try:
        models, api, e2b = stack.models_environment(), stack.api_environment(), stack.e2b_environment()
    finally:
        stack.stop()
    assert models["LOCAL_MODEL_UPSTREAM_KEY"] == CANARY_MODEL_KEY
    assert models["LOCAL_MODEL_UPSTREAM_URL"] == "http://127.0.0.1:9"
    assert api["ANTHROPIC_BASE_URL"] == stack.models.url
    assert api["ANTHROPIC_API_KEY"] == stack.keys.model_key == models["LOCAL_MODEL_KEY"]
    assert CANARY_MODEL_KEY not in (*api.values(), *e2b.values())


def test_without_a_key_nothing_is_forwarded(tmp_path: Path) -> None:
    """An address alone, or an empty key, does not lead anywhere."""
    stack = Stack(tmp_path, {"ANTHROPIC_API_KEY": "", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"})
    try:
        settings = stack.models_environment()
    finally:
        stack.stop()
    assert "LOCAL_MODEL_UPSTREAM_KEY" not in settings


def test_the_real_api_is_the_default_upstream() -> None:
    """A key is enough."""
    assert ModelSettings(key="k", upstream_key="real").upstream_url == "https://api.anthropic.com"
    assert ModelSettings(key="k", openai_key="real").openai_url == "https://api.openai.com/v1"
    assert create_app(ModelSettings(key="k", upstream_key="real", openai_key="real")).routes
