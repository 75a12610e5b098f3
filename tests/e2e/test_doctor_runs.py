"""The doctor on E2B, the model and the endpoints: each thing that can be wrong with them, one at a time."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from functions import prices, run_checks
from functions.doctor import CHECKS
from local.stack import Stack, free_port
from tests.e2e.examining import examined, users, wrong
from tests.e2e.faults import fault_proxy, served
from tests.e2e.sandboxes import living

Json = dict[str, Any]
# What the checks of E2B build on, without those of a whole run.
RESEARCH = [check for check in CHECKS if check.name in {"embedding", "planner"}]
SANDBOX = [check for check in CHECKS if check.name not in {"endpoints", "user", "run"}]


async def test_an_e2b_key_that_nobody_issued(stack: Stack) -> None:
    """The key is named, and no sandbox is asked for."""
    found = await examined(stack, SANDBOX, e2b_api_key="e2b_" + "0" * 40)
    assert wrong(found).keys() == {"e2b key"}
    assert {found[name].verdict for name in ("template", "egress", "injection")} == {"skipped"}


async def test_a_template_that_is_not_there(stack: Stack) -> None:
    """Its name is in the line, and E2B's own words."""
    found = await examined(stack, SANDBOX, e2b_template="never-built")
    assert wrong(found).keys() == {"template"}
    assert "E2B_TEMPLATE=never-built" in found["template"].words


async def test_a_template_without_claude(stack: Stack) -> None:
    """With a model key, conversations are expected to work: `base` has no `claude`. Plans alone run in it."""
    found = await examined(stack, SANDBOX, e2b_template="base")
    assert wrong(found).keys() == {"template"}
    assert "lacks claude, openai" in found["template"].words
    plans = await examined(stack, SANDBOX, e2b_template="base", anthropic_api_key=None, openai_api_key=None)
    assert (wrong(plans), plans["model key"].verdict) == ({}, "not used")


async def test_sandboxes_that_are_charged_as_others(stack: Stack) -> None:
    """A template of another size costs more, or less, than is charged for it: the doctor says what to set."""
    found = await examined(stack, SANDBOX, sandbox_vcpus="8")
    assert wrong(found).keys() == {"prices"}
    assert "SANDBOX_VCPUS=2 and SANDBOX_MEMORY_MIB=1024" in found["prices"].words


async def test_prices_have_a_date(stack: Stack) -> None:
    """An operator sees how old they are; old ones are no reason not to deploy."""
    found = await examined(stack, SANDBOX)
    assert found["prices"].verdict == "ok"
    assert f"of {prices.read().as_of}, for 2 vCPUs and 1024 MiB" in found["prices"].words


@asynccontextmanager
async def lax(stack: Stack, spoil: Callable[[Json], Json]) -> AsyncIterator[str]:
    """The address of an E2B that makes sandboxes with another network than it is asked for: what `spoil` gives."""

    def rewrite(request: Request, body: bytes) -> bytes:
        if (request.method, request.url.path) != ("POST", "/v2/sandboxes"):
            return body
        asked = json.loads(body)
        return json.dumps({**asked, "network": spoil(asked["network"])}).encode()

    async with fault_proxy(stack.e2b.url) as proxy:
        proxy.rewrite = rewrite
        yield proxy.url


async def test_egress_that_opens_too_little(stack: Stack) -> None:
    """A sandbox that cannot reach Supabase could tell nobody what it does."""
    async with lax(stack, lambda network: {**network, "allowOut": [], "rules": {}}) as url:
        found = await examined(stack, SANDBOX, e2b_api_url=url)
    assert wrong(found).keys() == {"egress"}
    assert "does not reach Supabase" in found["egress"].words


async def test_egress_that_opens_too_much(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that nothing opens, and that answers all the same."""
    monkeypatch.setattr(run_checks, "OUTSIDE", f"{stack.api.url}/healthz")
    found = await examined(stack, SANDBOX)
    assert wrong(found).keys() == {"egress"}
    assert "which nothing opens" in found["egress"].words


@pytest.mark.parametrize(("part", "words"), [("supabase", "the run token"), ("models", "the model key")])
async def test_credentials_that_are_not_added(stack: Stack, part: str, words: str) -> None:
    """Where E2B passes requests on without their header, the line says which one, and what works without."""
    entry = getattr(stack, part).url.removeprefix("http://")
    rest = lambda rules: {host: rule for host, rule in rules.items() if host != entry}  # noqa: E731
    async with lax(stack, lambda network: {**network, "rules": rest(network["rules"])}) as url:
        found = await examined(stack, SANDBOX, e2b_api_url=url)
    assert wrong(found).keys() == {"injection"}
    assert words in found["injection"].words
    assert "CREDENTIALS=env" in found["injection"].words


async def test_injection_that_is_not_used(stack: Stack) -> None:
    """With CREDENTIALS=env nothing is to be added: that is not wrong."""
    found = await examined(stack, SANDBOX, credentials="env")
    assert (wrong(found), found["injection"].verdict) == ({}, "not used")


async def test_a_model_key_that_nobody_issued(stack: Stack) -> None:
    """The key is what is wrong, and not the way that it takes out of a sandbox: that is not asked."""
    found = await examined(stack, SANDBOX, anthropic_api_key="sk-ant-nobodys")
    assert wrong(found).keys() == {"model key"}
    assert found["injection"].words == "needs: model key"
    assert "refuses ANTHROPIC_API_KEY" in found["model key"].words


async def test_an_embedding_model_that_nobody_measured(stack: Stack) -> None:
    """Is not wrong, but a reason why nothing is remembered, until there is a threshold."""
    found = await examined(stack, RESEARCH)
    assert (wrong(found), found["embedding"].words) == ({}, "multilingual-e5-small, the same from 0.9216 on")
    async with fault_proxy(stack.models.url) as proxy:
        proxy.rewrite = lambda _, body: body.replace(b"another-model", b"multilingual-e5-small")
        unmeasured = {"openai_base_url": f"{proxy.url}/v1", "embedding_model": "another-model"}
        told = (await examined(stack, RESEARCH, **unmeasured))["embedding"]
        set_by_hand = (await examined(stack, RESEARCH, **unmeasured, embedding_threshold="0.9"))["embedding"]
    assert (told.verdict, set_by_hand.words) == ("ok", "another-model, the same from 0.9 on")
    assert "EMBEDDING_THRESHOLD" in told.words


@pytest.mark.parametrize("changes", [{"openai_api_key": "sk-nobodys"}, {"embedding_model": "no-such-model"}])
async def test_an_embedding_model_that_refuses(stack: Stack, changes: dict[str, str]) -> None:
    """The line names what it was asked with."""
    found = await examined(stack, RESEARCH, **changes)
    assert wrong(found).keys() == {"embedding"}
    assert "EMBEDDING_MODEL=" in found["embedding"].words


async def test_research_without_a_key(stack: Stack) -> None:
    """Neither line is wrong: a deployment may do without."""
    found = await examined(stack, RESEARCH, openai_api_key=None)
    assert [found[name].verdict for name in ("embedding", "planner")] == ["not used", "not used"]
    claude = await examined(stack, RESEARCH, openai_api_key=None, research_model="claude-opus-5")
    assert claude["planner"].verdict == "ok"


async def test_no_endpoints_at_the_address(stack: Stack) -> None:
    """SANDSTREAM_URL that leads elsewhere: the run is not tried."""
    found = await examined(stack, sandstream_url=stack.models.url)
    assert wrong(found).keys() == {"endpoints"}
    assert found["run"].verdict == "skipped"


async def test_endpoints_of_another_secret(stack: Stack, tmp_path: Path) -> None:
    """The settings at hand were changed, and the deployment still has the older ones."""
    async with served(stack, tmp_path, SUPABASE_PUBLISHABLE_KEY="sb_publishable_older") as url:
        found = await examined(stack, sandstream_url=url)
    assert wrong(found).keys() == {"endpoints"}
    assert "publishable_key" in found["endpoints"].words


async def test_endpoints_that_know_no_user(stack: Stack, tmp_path: Path, service: httpx.AsyncClient) -> None:
    """Tokens of another issuer than the endpoints expect; the user that was made for asking is deleted."""
    async with served(stack, tmp_path, SUPABASE_JWT_ISSUER="https://elsewhere.test/auth/v1") as url:
        found = await examined(stack, sandstream_url=url)
    assert wrong(found).keys() == {"user"}
    assert "SUPABASE_JWT_ISSUER" in found["user"].words
    assert await users(service) == []


async def test_a_run_that_is_not_launched(stack: Stack, tmp_path: Path, service: httpx.AsyncClient) -> None:
    """The endpoints have another E2B key than the settings at hand: only a run tells."""
    async with served(stack, tmp_path, E2B_API_KEY="e2b_" + "0" * 40) as url:
        found = await examined(stack, sandstream_url=url)
    assert wrong(found).keys() == {"run"}
    assert "did not get to its end" in found["run"].words
    assert await users(service) == []


async def test_a_sandbox_that_stays(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a runner's last call does not arrive, its run succeeds and its sandbox is paid for: that is wrong too."""
    monkeypatch.setattr(run_checks, "GONE_SECONDS", 1)
    before = set(await living(stack))
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with served(stack, tmp_path, SANDSTREAM_URL=nowhere) as url:
        found = await examined(stack, sandstream_url=url)
    assert wrong(found).keys() == {"run"}
    assert "its sandbox lives on" in found["run"].words
    assert set(await living(stack)) <= before
