"""The models part in the stack: sandboxes reach it through the gate, which alone knows the key."""

import json
from pathlib import Path

import httpx
import pytest
from e2b import ALL_TRAFFIC, AsyncSandbox
from e2b.sandbox.sandbox_api import SandboxNetworkOpts
from openai import AsyncOpenAI

from local.stack import EMBEDDINGS, PLANNER, Stack
from sandstream.client import Sandstream
from tests.local.models_world import asking, chatting, said

ASK = """
import json, sys, urllib.error, urllib.request as web
url, body = sys.argv[1:]
headers = {"content-type": "application/json", "x-api-key": "placeholder"}
try:
    answer = web.urlopen(web.Request(url + "/v1/messages", body.encode(), headers))
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode())
"""


def script(prompt: str, text: str) -> dict[str, object]:
    return {"when": {"prompt": prompt}, "turns": [{"content": [said(text)]}]}


async def asked_from_inside(stack: Stack, network: SandboxNetworkOpts, body: str) -> str:
    """What a program in a sandbox gets that asks the model with a placeholder for a key."""
    place = {"api_key": stack.keys.e2b_api_key, "api_url": stack.e2b.url, "sandbox_url": stack.e2b.url}
    sandbox = await AsyncSandbox.create(network=network, **place)
    try:
        await sandbox.files.write("/tmp/ask.py", ASK)  # noqa: S108 inside the sandbox
        done = await sandbox.commands.run(f"python3 /tmp/ask.py {stack.models.url} '{body}'")
        return done.stdout
    finally:
        await sandbox.kill()


@pytest.mark.parametrize("has_rule", [True, False])
async def test_the_key_is_added_on_the_way_out_of_a_sandbox(stack: Stack, *, has_rule: bool) -> None:
    """With the rule that a run's egress has the model answers; without it the placeholder is refused."""
    place = stack.models.url.removeprefix("http://")
    network: SandboxNetworkOpts = {"allow_out": [place], "deny_out": [ALL_TRAFFIC]}
    if has_rule:
        network["rules"] = {place: [{"transform": {"headers": {"x-api-key": stack.keys.model_key}}}]}
    answer = await asked_from_inside(stack, network, json.dumps(asking("Hello")))
    assert answer.startswith("200 " if has_rule else "401 ")
    assert stack.keys.model_key not in answer


async def test_a_script_is_followed_as_soon_as_it_is_written(stack: Stack) -> None:
    """Also when it is written again; several scripts may stand under one name."""
    headers = {"x-api-key": stack.keys.model_key}
    async with httpx.AsyncClient(base_url=stack.models.url, headers=headers) as http:
        for text in ("one", "two"):
            stack.script_model("stack-test", *[script(f"stack test {name}", text + name) for name in "ab"])
            answer = await http.post("/v1/messages", json=asking("stack test b"))
            assert answer.json()["content"][0]["text"] == f"{text}b"
    assert [path.name for path in stack.model_scripts.iterdir() if "stack-test" in path.name] == ["stack-test.json"]


async def test_research_goes_where_its_scripts_lead(stack: Stack, client: Sandstream) -> None:
    """The commands of a built-in plan, in a sandbox of the product: the site is reached through the gate by default."""
    openai = AsyncOpenAI(base_url=f"{stack.models.url}/v1", api_key=stack.keys.model_key, max_retries=0)
    async with openai:
        plan = await openai.chat.completions.create(**chatting("Question: Which is larger, Oakmere or Brinewick?"))
    commands = [step["command"] for step in json.loads(plan.choices[0].message.content or "")["steps"]]
    assert commands[0].count(stack.web.url) == 1
    run = await client.submit(commands)
    events = [event async for event in client.watch(run.session_id)]
    ends = [event.data["exit_code"] for event in events if event.type == "command.completed"]
    output = "".join(event.data["text"] for event in events if event.type == "command.output")
    assert (ends, "Difference: 16235" in output) == ([0, 0, 0], True), output


def told(root: Path, **environment: str) -> tuple[Stack, dict[str, str]]:
    """A stack that never starts, and what its endpoints would be told."""
    stack = Stack(root, environment)
    stack.stop()
    return stack, stack.api_environment()


def test_the_endpoints_are_told_what_is_scripted(tmp_path: Path) -> None:
    """Where OpenAI's wire is, with the local key, and the models there; the planner's name is none of Anthropic's."""
    stack, settings = told(tmp_path)
    assert settings["OPENAI_BASE_URL"] == f"{stack.models.url}/v1"
    assert settings["OPENAI_API_KEY"] == stack.keys.model_key
    assert (settings["RESEARCH_MODEL"], settings["EMBEDDING_MODEL"]) == (PLANNER, EMBEDDINGS)
    assert not PLANNER.startswith("claude-")
    assert settings["EGRESS_ALLOW"] == stack.web.place


def test_what_is_set_is_tried_out(tmp_path: Path) -> None:
    """The site is open beside what the operator opens; models and threshold may be others."""
    given = {"EGRESS_ALLOW": "a.test,b.test", "RESEARCH_MODEL": "claude-sonnet-5", "EMBEDDING_THRESHOLD": "0.9"}
    stack, settings = told(tmp_path, **given)
    assert settings["EGRESS_ALLOW"] == f"a.test,b.test,{stack.web.place}"
    assert (settings["RESEARCH_MODEL"], settings["EMBEDDING_THRESHOLD"]) == ("claude-sonnet-5", "0.9")
    assert settings["EMBEDDING_MODEL"] == EMBEDDINGS


def test_the_stack_says_where_its_models_are(stack: Stack) -> None:
    """Among its addresses; the key is the stack's own and says itself that it is no real one."""
    assert stack.addresses.models_url == stack.models.url
    assert stack.addresses.web_url == stack.web.url == stack.models_environment()["LOCAL_MODEL_WEB_URL"]
    assert stack.keys.model_key.startswith("sk-ant-local-not-a-real-key-")
