"""E2B, the model and the endpoints under examination, and in the end one tiny run through all of them."""

import asyncio
import json
import secrets
import shlex
import time
from contextlib import suppress
from datetime import UTC, datetime

from e2b import AsyncSandbox, SandboxException
from e2b.exceptions import AuthenticationException, NotFoundException

from functions import egress, prices
from functions.bundle import build
from functions.case import Case, Check, NotNeeded, Problem, Row, said
from functions.egress import Egress
from functions.sandboxes import BAKED
from functions.settings import netloc
from functions.supabase_checks import is_known, token_of_nobody
from sandstream.client import Sandstream
from sandstream.errors import SandstreamError

SANDBOX_SECONDS = 120
COMMAND_SECONDS = 45
RUN_SECONDS = 60
WATCH_SECONDS = 120
GONE_SECONDS = 30
POLL_SECONDS = 0.5
MODEL_VERSION = "2023-06-01"
PLACEHOLDER = "added-outside-the-sandbox"
WITHOUT = "CREDENTIALS=env works without; docs/operations.md says what it costs"
# What the driver of research imports.
RESEARCH_MODULES = ("openai", "pydantic", "tree_sitter", "tree_sitter_bash")
MISSING = (
    "import importlib.util as known, sys; print(*(name for name in sys.argv[1:] if known.find_spec(name) is None))"
)
# A host that no deployment opens.
OUTSIDE = "https://example.com"
# Runs in the sandbox, with its bare Python: what a request is answered, with the headers that the sandbox has itself.
PROBE = """
import json, sys, urllib.error, urllib.request
def ask(url, headers={}, body=None):
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return [answer.status, answer.read(500).decode(errors="replace")]
    except urllib.error.HTTPError as error:
        return [error.code, error.read(500).decode(errors="replace")]
    except OSError as error:
        return [0, str(error)]
print(json.dumps({name: ask(*asked) for name, asked in json.loads(sys.argv[1]).items()}))
"""


async def e2b_key(case: Case) -> str:
    """E2B knows the key."""
    try:
        await AsyncSandbox.list(limit=1, **case.settings.e2b).next_items()
    except AuthenticationException as error:
        raise Problem(f"E2B refuses E2B_API_KEY ({error})") from error
    return "accepted"


async def template(case: Case) -> str:
    """A sandbox comes of E2B_TEMPLATE, and has what runs need."""
    name = case.settings.e2b_template
    try:
        case.sandbox = await AsyncSandbox.create(
            template=name, timeout=SANDBOX_SECONDS, metadata={"sandstream_doctor": "1"},
            network=network(case).as_network(),  # type: ignore[arg-type] # a TypedDict of callables
            **case.settings.e2b,
        )  # fmt: skip
    except SandboxException as error:
        raise Problem(f"E2B makes no sandbox of E2B_TEMPLATE={name}: build it, or name another ({error})") from error
    needed = ["python3", "setsid", "flock", *(["claude", "git"] if case.settings.anthropic_api_key else [])]
    modules = RESEARCH_MODULES if case.settings.openai_api_key else ()
    found = await inside(
        case,
        f"for name in {' '.join(needed)}; do command -v $name >/dev/null || echo $name; done; "
        f"python3 -c {shlex.quote(MISSING)} {' '.join(modules)}",
    )
    if absent := found.split():
        raise Problem(f"the template {name} lacks {', '.join(absent)}: build it with `python -m functions.template`")
    baked = await inside(case, f"test -f {BAKED}/{build().name} && echo yes || true")
    return f"{name}, {'with' if baked.strip() else 'without'} this tree's runner"


async def charged(case: Case) -> str:
    """Sandboxes are charged as what they are, at prices that somebody compared not too long ago."""
    assert case.sandbox is not None  # noqa: S101 the check that makes it is among those that are needed
    info = await case.sandbox.get_info()
    size, told = (info.cpu_count, info.memory_mb), (case.settings.sandbox_vcpus, case.settings.sandbox_memory_mib)
    if size != told:
        raise Problem(
            f"sandboxes have {size[0]} vCPUs and {size[1]} MiB, and are charged as {told[0]} and {told[1]}: "
            f"SANDBOX_VCPUS={size[0]} and SANDBOX_MEMORY_MIB={size[1]}"
        )
    list_prices = prices.read()
    age = list_prices.age_days(datetime.now(UTC).date())
    stale = "; that is long ago, compare functions/prices.json with its sources" if age > prices.MAX_AGE_DAYS else ""
    return f"of {list_prices.as_of}, for {size[0]} vCPUs and {size[1]} MiB{stale}"


def network(case: Case) -> Egress:
    """What a conversation would be given: ours and the model's host, and the credentials on their way there."""
    model = netloc(case.settings.anthropic_base_url)
    headers = {**egress.tokens(case.settings, token_of_nobody(case)), **egress.model_key(case.settings, model)}
    return Egress(egress.unique(egress.ours(case.settings), (model,)), headers)


async def inside(case: Case, command: str) -> str:
    """What a command prints in the sandbox. Raises what E2B's SDK raises."""
    assert case.sandbox is not None  # noqa: S101 the check that makes it is among those that are needed
    return (await case.sandbox.commands.run(command, timeout=COMMAND_SECONDS)).stdout


async def closed(case: Case) -> str:
    """A sandbox reaches what its run opens, and nothing else."""
    answers = await asked(case, {"supabase": heartbeat(case), "outside": [OUTSIDE]})
    if answers["outside"][0]:
        raise Problem(f"a sandbox reaches {OUTSIDE}, which nothing opens: E2B does not apply the egress rules")
    if not answers["supabase"][0]:
        host = netloc(case.settings.supabase_url)
        raise Problem(f"a sandbox does not reach Supabase at {host}, which is open to it ({answers['supabase'][1]})")
    return "closed but for what is opened"


async def injection(case: Case) -> str:
    """E2B adds the run token, and the model key, to requests on their way."""
    if case.settings.credentials == "env":
        raise NotNeeded("CREDENTIALS=env: the sandbox holds its run token and the model key itself")
    wanted = {"supabase": heartbeat(case)}
    if case.settings.anthropic_api_key is not None:
        wanted["model"] = [*await question(case, PLACEHOLDER)]
    answers = await asked(case, wanted)
    if not is_known(*answers["supabase"]):
        raise Problem(f"E2B does not add the run token to requests to Supabase {answers['supabase']}: {WITHOUT}")
    if "model" in answers and answers["model"][0] == 401:
        raise Problem(f"E2B does not add the model key to requests to the model {answers['model']}: {WITHOUT}")
    return " and ".join({"supabase": "run token", "model": "model key"}[name] for name in wanted)


def heartbeat(case: Case) -> list[object]:
    """The request that a runner makes to say that it lives, without its token."""
    headers = {"apikey": case.settings.supabase_publishable_key, "Content-Type": "application/json"}
    return [f"{case.settings.supabase_url}/rest/v1/rpc/heartbeat_v1", headers, {}]


async def asked(case: Case, requests: dict[str, list[object]]) -> dict[str, tuple[int, str]]:
    """What each request is answered when it is made in the sandbox: status and text; 0 and the reason for none."""
    printed = await inside(case, f"python3 -c {shlex.quote(PROBE)} {shlex.quote(json.dumps(requests))}")
    return {name: (status, text) for name, (status, text) in json.loads(printed).items()}


async def model_key(case: Case) -> str:
    """The model's API takes the key, for the model that the default agent names. Counting tokens costs nothing."""
    if case.settings.anthropic_api_key is None:
        raise NotNeeded("ANTHROPIC_API_KEY is not set: there are plans of commands, and no conversations")
    url, headers, body = await question(case, case.settings.anthropic_api_key.get_secret_value())
    answer = await case.http.post(url, headers=headers, json=body)
    if answer.status_code in (401, 403):
        raise Problem(f"{netloc(url)} refuses ANTHROPIC_API_KEY ({said(answer)})")
    if not answer.is_success:
        raise Problem(f"{netloc(url)} does not count the tokens of {body['model']} ({said(answer)})")
    return f"accepted for {body['model']}"


async def question(case: Case, key: str) -> tuple[str, dict[str, str], Row]:
    """A request to count tokens: URL, headers, body."""
    path = "/rest/v1/agents?id=eq.default&select=config"
    agents = (await case.supabase("GET", path, case.secret_key)).json()
    body = {"model": agents[0]["config"]["model"]["id"], "messages": [{"role": "user", "content": "hello"}]}
    headers = {"x-api-key": key, "anthropic-version": MODEL_VERSION, "Content-Type": "application/json"}
    return f"{case.settings.anthropic_base_url}/v1/messages/count_tokens", headers, body


async def endpoints(case: Case) -> str:
    """The endpoints answer at SANDSTREAM_URL, and were deployed with this Supabase project."""
    url = case.settings.sandstream_url
    answer = await case.http.get(f"{url}/v1/config")
    if not answer.is_success:
        raise Problem(f"there are no endpoints at SANDSTREAM_URL={url} ({said(answer)}): `modal deploy` prints theirs")
    told = answer.json()
    ours = {"supabase_url": case.settings.supabase_url, "publishable_key": case.settings.supabase_publishable_key}
    if changed := sorted(name for name, value in ours.items() if told.get(name) != value):
        raise Problem(f"the endpoints run with another {' and '.join(changed)}: store the secret, and deploy again")
    return url


async def user(case: Case) -> str:
    """Somebody who signs in is somebody to the endpoints. The user is made for this and deleted in the end."""
    person = {"email": f"doctor-{secrets.token_hex(6)}@sandstream.test", "password": f"Aa1!{secrets.token_urlsafe(24)}"}
    made = await case.supabase("POST", "/auth/v1/admin/users", case.secret_key, body={**person, "email_confirm": True})
    if not made.is_success:
        raise Problem(f"Supabase Auth makes no user ({said(made)})")
    case.user_id = made.json()["id"]
    key = case.settings.supabase_publishable_key
    answer = await case.supabase("POST", "/auth/v1/token?grant_type=password", key, body=person)
    if not answer.is_success:
        raise Problem(f"signing in by email and password is refused, and the doctor has to ({said(answer)})")
    case.user_token = answer.json()["access_token"]
    headers = {"Authorization": f"Bearer {case.user_token}"}
    listed = await case.http.get(f"{case.settings.sandstream_url}/v1/sessions", headers=headers)
    if not listed.is_success:
        raise Problem(
            f"the endpoints refuse a signed-in user ({said(listed)}): SUPABASE_JWT_ISSUER, or the signing keys"
        )
    return "signed in"


async def run(case: Case) -> str:
    """`true` is submitted, launched, run and told of; and its sandbox ends with it."""
    begun = time.monotonic()
    async with Sandstream(case.settings.sandstream_url, case.user_token) as client:
        try:
            accepted = await client.submit(["true"], title="doctor", timeout=RUN_SECONDS)
            types = [event.type async for event in client.watch(accepted.session_id, deadline=WATCH_SECONDS)]
            ended = await client.run(accepted.id)
        except (SandstreamError, TimeoutError) as error:
            raise Problem(f"a run of `true` did not get to its end: {error or 'no event for too long'}") from error
    path = f"/rest/v1/agent_runs?id=eq.{accepted.id}&select=sandbox_id"
    case.run_sandbox_id = (await case.supabase("GET", path, case.secret_key)).json()[0]["sandbox_id"]
    if "run.succeeded" not in types:
        raise Problem(f"a run of `true` ended as {ended.status} ({ended.error}); its events: {', '.join(types)}")
    seconds = time.monotonic() - begun
    await until_closed(case)
    return f"run.succeeded after {seconds:.1f} s"


async def until_closed(case: Case) -> None:
    """Returns once the run's sandbox is gone. Raises Problem: the runner's last call asks the endpoints to end it."""
    deadline = time.monotonic() + GONE_SECONDS
    while time.monotonic() < deadline:
        if case.run_sandbox_id is None or not await exists(case, case.run_sandbox_id):
            case.run_sandbox_id = None
            return
        await asyncio.sleep(POLL_SECONDS)
    raise Problem(f"the run succeeded and its sandbox lives on: sandboxes do not reach {case.settings.sandstream_url}")


async def exists(case: Case, sandbox_id: str) -> bool:
    """Whether E2B has this sandbox."""
    try:
        await AsyncSandbox.get_info(sandbox_id, **case.settings.e2b)
    except NotFoundException:
        return False
    return True


async def leave(case: Case) -> None:
    """Undoes what the checks have made: sandboxes, and the user with all that is theirs. Raises Problem."""
    own = case.sandbox.sandbox_id if case.sandbox else None
    for sandbox_id in filter(None, (own, case.run_sandbox_id)):
        with suppress(NotFoundException):
            await AsyncSandbox.kill(sandbox_id, **case.settings.e2b)
    if case.user_id is not None:
        answer = await case.supabase("DELETE", f"/auth/v1/admin/users/{case.user_id}", case.secret_key, body={})
        if not answer.is_success:
            raise Problem(f"the user {case.user_id} could not be deleted ({said(answer)})")


CHECKS = (
    Check("model key", model_key, ("migrations",)),
    Check("e2b key", e2b_key),
    Check("template", template, ("e2b key", "run token key")),
    Check("prices", charged, ("template",)),
    Check("egress", closed, ("template", "migrations")),
    Check("injection", injection, ("egress", "run token", "model key")),
    Check("endpoints", endpoints),
    Check("user", user, ("endpoints", "secret key", "publishable key")),
    Check("run", run, ("user", "template", "injection", "row security")),
)
