"""Supabase under examination: keys, signing keys, migrations, row security, the publication, the run token."""

import json
import re
from pathlib import Path
from uuid import UUID

import jwt

from functions.case import Case, Check, Problem, said, word
from functions.identity import ASYMMETRIC, RunGrant, RunTokens

MIGRATIONS = Path(__file__).parents[1] / "supabase/migrations"
CREATED = re.compile(r"^create (?:or replace )?function public\.(\w+)", re.MULTILINE)
DROPPED = re.compile(r"^drop function (?:if exists )?public\.(\w+)", re.MULTILINE)
PUBLISHED = {"agent_sessions", "agent_runs", "agent_events"}
PUSH = "run `supabase db push`"
NOBODY = UUID(int=0)
TOKEN_SECONDS = 60


async def run_token_key(case: Case) -> str:
    """The settings' key can sign."""
    if case.settings.run_token_key is None:
        return "SUPABASE_JWT_SECRET instead: whoever holds it can be any user"
    try:
        token_of_nobody(case)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
        raise Problem(f"RUN_TOKEN_KEY is not a private ES256 JWK: {error}") from error
    return "a private ES256 JWK"


async def reachable(case: Case) -> str:
    """Something answers at SUPABASE_URL, and it is Supabase Auth."""
    answer = await case.http.get(f"{case.settings.supabase_url}/auth/v1/.well-known/jwks.json")
    if not answer.is_success:
        raise Problem(f"SUPABASE_URL is not a Supabase project: its signing keys answer {said(answer)}")
    return case.settings.supabase_url


async def publishable_key(case: Case) -> str:
    """The project knows the key, and it opens nothing that the secret key opens."""
    key = case.settings.supabase_publishable_key
    read = await case.supabase("GET", "/rest/v1/agent_events?select=seq&limit=1", key)
    if read.status_code == 401 and word(read) is None:
        raise Problem(f"Supabase refuses SUPABASE_PUBLISHABLE_KEY ({said(read)})")
    if (await case.supabase("GET", "/auth/v1/admin/users?per_page=1", key)).is_success:
        raise Problem("SUPABASE_PUBLISHABLE_KEY is a secret key: everyone would have it; revoke it and set the other")
    return "accepted"


async def secret_key(case: Case) -> str:
    """The project knows the key as its secret one."""
    answer = await case.supabase("GET", "/auth/v1/admin/users?per_page=1", case.secret_key)
    if not answer.is_success:
        raise Problem(f"Supabase refuses SUPABASE_SECRET_KEY ({said(answer)})")
    return "accepted"


async def signing_keys(case: Case) -> str:
    """Users' tokens can be verified, and the public half of RUN_TOKEN_KEY is among the project's keys."""
    answer = await case.http.get(f"{case.settings.supabase_url}/auth/v1/.well-known/jwks.json")
    listed = [key for key in answer.json()["keys"] if key.get("alg") in ASYMMETRIC]
    if not listed and case.settings.supabase_jwt_secret is None:
        raise Problem("the project signs with its legacy secret: migrate to signing keys, or set SUPABASE_JWT_SECRET")
    if case.settings.run_token_key is None:
        return f"{len(listed)}, and the legacy secret"
    own = json.loads(case.settings.run_token_key.get_secret_value())
    if not any((key.get("x"), key.get("y")) == (own.get("x"), own.get("y")) for key in listed):
        raise Problem(
            "the public half of RUN_TOKEN_KEY is not among the project's signing keys: import it there, or set the one "
            "that was imported"
        )
    if all(key.get("kid") != own.get("kid") for key in listed):
        raise Problem("RUN_TOKEN_KEY has another `kid` than the project knows it by: set it as the project shows it")
    return f"{len(listed)}, RUN_TOKEN_KEY's among them"


async def migrations(case: Case) -> str:
    """Every function that this tree's migrations leave behind is in the database."""
    answer = await case.supabase("POST", "/rest/v1/rpc/deployment_facts_v1", case.secret_key, body={})
    if not answer.is_success:
        raise Problem(f"the migrations are not applied: {PUSH} ({said(answer)})")
    case.facts = answer.json()
    expected = functions()
    if missing := sorted(expected - set(case.facts["functions"])):
        raise Problem(f"not all migrations are applied: {PUSH}; missing: {', '.join(missing)}")
    return f"applied, {len(expected)} functions"


def functions() -> set[str]:
    """The names of the public functions that there are when all migrations have run."""
    found: set[str] = set()
    for path in sorted(MIGRATIONS.glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        found = (found - set(DROPPED.findall(text))) | set(CREATED.findall(text))
    return found


async def row_security(case: Case) -> str:
    """Every table decides row by row, and a visitor without a token reads no event."""
    if off := sorted(name for name, is_on in case.facts["tables"].items() if not is_on):
        raise Problem(
            f"row level security is off, so that tenants see each other's rows: {', '.join(off)}; "
            "`alter table … enable row level security, force row level security`"
        )
    key = case.settings.supabase_publishable_key
    read = await case.supabase("GET", "/rest/v1/agent_events?select=seq&limit=1", key)
    if read.is_success and read.json():
        raise Problem("anyone can read agent_events without signing in: revoke what was granted to `anon`")
    return f"on, {len(case.facts['tables'])} tables"


async def publication(case: Case) -> str:
    """Realtime tells of changes to the three tables that clients may follow."""
    if missing := sorted(PUBLISHED - set(case.facts["published"])):
        raise Problem(
            f"the publication supabase_realtime lacks {', '.join(missing)}: "
            f"`alter publication supabase_realtime add table public.{missing[0]}`"
        )
    return ", ".join(sorted(PUBLISHED))


async def run_token(case: Case) -> str:
    """Supabase takes a run token for what it is: it knows the signature and the role, and that there is no such run."""
    key = case.settings.supabase_publishable_key
    answer = await case.supabase("POST", "/rest/v1/rpc/heartbeat_v1", key, bearer=token_of_nobody(case), body={})
    if not is_known(answer.status_code, answer.text):
        raise Problem(f"Supabase does not accept run tokens that RUN_TOKEN_KEY signs ({said(answer)})")
    return "accepted"


def token_of_nobody(case: Case) -> str:
    """A run token for a run that does not exist."""
    return RunTokens(case.settings).mint(RunGrant(NOBODY, NOBODY, 1), TOKEN_SECONDS)


def is_known(status: int, body: str) -> bool:
    """Whether this answer to a heartbeat is our own SQL's: the token was read, and its run is not there."""
    return status == 403 and "not_a_run_token" in body


CHECKS = (
    Check("run token key", run_token_key),
    Check("supabase", reachable),
    Check("publishable key", publishable_key, ("supabase",)),
    Check("secret key", secret_key, ("supabase",)),
    Check("signing keys", signing_keys, ("supabase", "run token key")),
    Check("migrations", migrations, ("secret key",)),
    Check("row security", row_security, ("publishable key", "migrations")),
    Check("publication", publication, ("migrations",)),
    Check("run token", run_token, ("publishable key", "signing keys", "migrations")),
)
