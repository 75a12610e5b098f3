"""What a sandbox does not hold, and where it cannot go."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest

from local.stack import Stack
from sandstream.client import Sandstream
from tests.conftest import CANARY_MODEL_KEY
from tests.e2e.sandboxes import sandbox_of, until

PROBE = Path(__file__).with_name("probe.py")


# Asks Supabase with the publishable key and no token. Usage: URL KEY PATH [BODY].
ASK = """
import sys, urllib.error, urllib.request as web
url, key, path, *body = sys.argv[1:]
headers = {"apikey": key, "content-type": "application/json"}
try:
    answer = web.urlopen(web.Request(url + path, "".join(body).encode() or None, headers))
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode())
"""


def place(url: str) -> str:
    return urlsplit(url).netloc


async def probed(
    stack: Stack, client: Sandstream, service: httpx.AsyncClient, planted: str = "", **wanted: Any
) -> dict[str, Any]:
    """What the probe finds in the sandbox of a run that is going on, and in which `planted` lies in a file."""
    run = await client.submit(["sleep 60"])
    sandbox = await sandbox_of(stack, service, run.id)

    async def started() -> bool | None:
        page = await client.events(run.session_id)
        return any(event.type == "command.started" for event in page.data) or None

    await until(started, "the command to start")
    request = json.dumps({"needles": [], "open": [], "closed": [], "fetch": [], **wanted})
    await sandbox.files.write_files(
        [
            {"path": "/tmp/probe.py", "data": PROBE.read_text()},  # noqa: S108 inside the sandbox
            {"path": "/tmp/wanted.json", "data": request},  # noqa: S108
            {"path": "/tmp/planted", "data": planted},  # noqa: S108
        ]
    )
    # The needles must not lie in a file while they are searched for.
    done = await sandbox.commands.run("exec 3</tmp/wanted.json; rm /tmp/wanted.json; python3 /tmp/probe.py <&3")
    await client.cancel(run.id)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def test_no_secret_is_in_the_sandbox(stack: Stack, client: Sandstream, service: httpx.AsyncClient) -> None:
    """Not in a process's environment, not on a command line, not in a file: no key of ours, no token, no model key."""
    private = json.loads(stack.keys.signing_key)["d"]
    needles = [stack.keys.secret_key, stack.keys.e2b_api_key, stack.keys.jwt_secret, private, CANARY_MODEL_KEY]
    report = await probed(stack, client, service, needles=needles)
    assert report["found"] == [], "\n".join(report["found"])
    assert report["read_places"] > 10


async def test_the_probe_finds_what_is_there(stack: Stack, client: Sandstream, service: httpx.AsyncClient) -> None:
    """The search above is no formality: what the sandbox does hold is found, in environments and in files."""
    needles = [stack.keys.publishable_key, "SANDSTREAM_COMMAND"]
    report = await probed(stack, client, service, needles=needles, planted=jwt.encode({"sub": "canary"}, "x" * 32))
    assert "/tmp/planted: a JWT" in report["found"]  # noqa: S108 inside the sandbox
    assert any("/proc/" in place for place in report["found"])
    assert any("job.json" in place for place in report["found"])


async def test_only_declared_hosts_are_reached(stack: Stack, client: Sandstream, service: httpx.AsyncClient) -> None:
    """Supabase and the endpoints answer; the database, E2B's control plane and the world outside do not."""
    opened = [place(stack.supabase.url), place(stack.api.url)]
    closed = [f"127.0.0.1:{stack.postgres.port}", place(stack.e2b.url), "192.0.2.1:80", "[::1]:80"]
    urls = [f"{stack.api.url}/healthz", "http://undeclared.test/", f"http://localhost:{stack.postgres.port}/"]
    report = await probed(stack, client, service, open=opened, closed=closed, fetch=urls)
    assert report["open"] == opened
    assert report["closed"] == []
    assert report["fetched"][urls[0]] == 200
    assert not any(200 <= report["fetched"][url] < 400 for url in urls[1:])


async def test_the_rule_adds_the_token_on_the_way(stack: Stack, client: Sandstream, service: httpx.AsyncClient) -> None:
    """A command in the sandbox that sends no token is the run to Supabase, and can do no more than the run."""
    asked = f"python3 -c '{ASK}' {stack.supabase.url}/rest/v1 {stack.keys.publishable_key}"
    run = await client.submit([f"{asked} /rpc/heartbeat_v1 {{}}", f"{asked} /agent_sessions"])
    outputs = [e.data["text"] async for e in client.watch(run.session_id) if e.type == "command.output"]
    assert json.loads(outputs[0].removeprefix("200 "))["status"] == "running"
    assert outputs[1][:3] in ("401", "403")


@pytest.mark.parametrize("secret", ["sk-ant-api03-" + "a" * 40, "ghp_" + "b" * 36, "AKIA" + "C" * 16])
async def test_a_printed_secret_is_blotted_out(secret: str, client: Sandstream) -> None:
    """What looks like a key does not reach the log, even if a command prints it in two halves."""
    half = len(secret) // 2
    run = await client.submit([f"printf {secret[:half]}; sleep 0.3; echo {secret[half:]}"])
    events = [event async for event in client.watch(run.session_id)]
    outputs = [event.data["text"] for event in events if event.type == "command.output"]
    assert secret not in "".join(outputs)
    assert "redacted" in "".join(outputs)
