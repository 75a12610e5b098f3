"""Who may do what through REST: keys, tokens, roles, row security; and what happens when Postgres is away."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import ECAlgorithm

from local.supabase.keys import new_signing_key
from tests.local.supabase_world import REPRESENTATION, Project, open_project

DEADLINE_SECONDS = 20.0
ADA, BO = str(uuid.uuid4()), str(uuid.uuid4())


async def status_with(project: Project, token: str) -> tuple[int, str | None]:
    async with project.rest(token) as rest:
        answer = await rest.get("/labels")
        return answer.status_code, None if answer.status_code == 200 else answer.json()["code"]


@pytest.mark.parametrize(
    ("headers", "message"),
    [({}, "No API key found in request"), ({"apikey": "sb_publishable_wrong"}, "Invalid API key"),
     ({"apikey": "sb_secret_"}, "Invalid API key"), ({"apikey": "a.b.c"}, "Invalid API key")],
)  # fmt: skip
async def test_api_keys_are_required(project: Project, headers: dict[str, str], message: str) -> None:
    """Without a key of this project: 401, before anything else."""
    async with httpx.AsyncClient(base_url=project.url, headers=headers) as client:
        answer = await client.get("/rest/v1/labels")
    assert (answer.status_code, answer.json()["message"]) == (401, message)


async def test_a_bearer_that_repeats_the_key_says_nothing(library: Project) -> None:
    """The SDKs send the key as Bearer until somebody signs in: the role is the key's."""
    for key, role in ((library.settings.publishable_key, "anon"), (library.secret, "service_role")):
        async with library.rest(key, key=key) as rest:
            assert (await rest.post("/rpc/said")).json()["role"] == role


async def test_legacy_keys_and_tokens(library: Project) -> None:
    """HS256 tokens by the legacy secret are accepted, as API key and as Bearer."""
    async with library.rest(key=library.legacy_token("service_role")) as rest:
        assert (await rest.post("/rpc/said")).json()["role"] == "service_role"
    async with library.rest(library.legacy_token("authenticated")) as rest:
        assert (await rest.post("/rpc/said")).json()["role"] == "authenticated"


async def test_a_users_token_wins_over_the_secret_key(library: Project) -> None:
    """With a verified Bearer the caller is who it says, whatever the key."""
    async with library.rest(library.token(sub=ADA), key=library.secret) as rest:
        assert (await rest.post("/rpc/said")).json()["role"] == "authenticated"


@pytest.mark.parametrize("seconds", [-1, -3600])
async def test_expired_tokens(project: Project, seconds: float) -> None:
    """401 PGRST303, from the second on."""
    assert await status_with(project, project.token(seconds=seconds)) == (401, "PGRST303")


async def test_a_token_expires_though_it_was_seen_before(project: Project) -> None:
    """That a signature was verified once does not make the token live longer."""
    token = project.token(exp=int(time.time()) + 2)
    assert await status_with(project, token) == (200, None)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while await status_with(project, token) == (200, None):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert await status_with(project, token) == (401, "PGRST303")


async def test_tokens_of_the_future(project: Project) -> None:
    """Not before `nbf`."""
    assert await status_with(project, project.token(nbf=int(time.time()) + 60)) == (401, "PGRST303")


def segment(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forgeries(project: Project) -> dict[str, str]:
    """Tokens that claim to be the service, each by another trick."""
    claims = {"role": "service_role", "exp": int(time.time()) + 600}
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    ours = ECAlgorithm.from_jwk(project.keyring.jwks()["keys"][0])
    pem = ours.public_key() if hasattr(ours, "public_key") else ours
    public = pem.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)  # type: ignore[union-attr]
    body = f"{segment({'alg': 'HS256', 'typ': 'JWT'})}.{segment(claims)}"
    confused = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(body.encode(), public)
    good = project.token("authenticated")
    head, _, signature = good.split(".")
    return {
        "none": f"{segment({'alg': 'none'})}.{segment(claims)}.",
        "RS256": jwt.encode(claims, private, algorithm="RS256"),
        "other ES256 key": jwt.encode(claims, ECAlgorithm.from_jwk(new_signing_key()), algorithm="ES256"),
        "other HS256 secret": jwt.encode(claims, "x" * 40, algorithm="HS256"),
        "HS256 by our public key": f"{body}.{base64.urlsafe_b64encode(confused).rstrip(b'=').decode()}",
        "HS512 by our secret": jwt.encode(
            claims, project.settings.jwt_secret.get_secret_value() * 2, algorithm="HS512"
        ),
        "payload exchanged": f"{head}.{segment(claims)}.{signature}",
        "no signature": f"{head}.{segment(claims)}.",
        "nonsense": "x.y.z",
    }


async def test_forged_tokens(project: Project) -> None:
    """No algorithm but ours, no key but ours, nothing unsigned or changed: 401 PGRST301."""
    refused = {name: await status_with(project, token) for name, token in forgeries(project).items()}
    assert set(refused.values()) == {(401, "PGRST301")}, refused


async def test_roles_that_are_not_granted(project: Project) -> None:
    """A valid token cannot name a role that the authenticator is not in, or that is not there."""
    for role in ("supabase_admin", "postgres", "nobody"):
        status, _ = await status_with(project, project.token(role))
        assert status in (400, 401, 403), role


async def test_a_refused_role_costs_nobody_else_anything(library: Project) -> None:
    """The connection on which a role was refused serves the next callers, the same statement again and again."""
    async with library.rest(library.token("nobody")) as refused, library.rest() as rest:
        # A statement is prepared when it runs again: here before, behind and after a refusal.
        assert all([(await refused.get("/labels")).status_code >= 400 for _ in range(3)])
        for path in (f"/labels?limit={n}" for n in range(1, 5)):
            assert (await rest.get(path)).status_code == 200
            assert (await refused.get(path)).status_code >= 400
            assert [(await rest.get(path)).status_code for _ in range(3)] == [200] * 3


async def test_a_custom_role(library: Project) -> None:
    """A role of a migration's works by its claim, and has its own rights only."""
    async with library.rest(library.token("courier", aud="anything")) as rest:
        assert (await rest.post("/rpc/deliver")).json() == "delivered"
        answer = await rest.get("/parcels")
        assert (answer.status_code, answer.json()["code"]) == (403, "42501")
    async with library.rest() as rest:
        assert (await rest.post("/rpc/deliver")).status_code == 401


async def test_missing_privileges(library: Project) -> None:
    """401 for who is anonymous, 403 for who is known, nothing in the way of the service."""
    async with library.rest() as anonymous, library.rest(library.token(sub=ADA)) as known:
        assert (await anonymous.get("/closed")).status_code == 401
        assert (await known.get("/closed")).status_code == 403
    async with library.rest(key=library.secret) as service:
        assert (await service.get("/closed")).status_code == 200


async def test_row_security_decides(library: Project) -> None:
    """A stranger neither sees nor writes nor changes nor deletes an owner's rows."""
    async with library.rest(library.token(sub=ADA)) as ada, library.rest(library.token(sub=BO)) as bo:
        answer = await ada.post("/diaries", json={"owner": ADA, "entry": "mine"}, headers=REPRESENTATION)
        assert answer.status_code == 201
        assert (await bo.get("/diaries")).json() == []
        answer = await bo.post("/diaries", json={"owner": ADA, "entry": "forged"})
        assert (answer.status_code, answer.json()["code"]) == (403, "42501")
        assert (await bo.patch("/diaries?id=gt.0", json={"entry": "x"}, headers=REPRESENTATION)).json() == []
        assert (await bo.delete("/diaries?id=gt.0", headers=REPRESENTATION)).json() == []
        assert [row["entry"] for row in (await ada.get("/diaries")).json()] == ["mine"]


async def test_callers_at_once_are_not_confused(library: Project) -> None:
    """A hundred requests of two people and nobody, all at once, on shared connections: each is answered as itself."""

    async def who(token: str | None, wanted: str | None) -> bool:
        async with library.rest(token) as rest:
            return bool((await rest.post("/rpc/said")).json()["claims"].get("sub") == wanted)

    people: list[tuple[str | None, str | None]] = [
        (library.token(sub=ADA), ADA),
        (library.token(sub=BO), BO),
        (None, None),
    ]
    assert all(await asyncio.gather(*(who(*people[n % 3]) for n in range(99))))


async def test_browsers_are_let_in(project: Project) -> None:
    """A preflight allows the clients' headers and methods, and Content-Range is readable."""
    headers = {
        "Origin": "http://example.test",
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "apikey,authorization,content-profile,prefer,x-client-info",
    }
    async with httpx.AsyncClient(base_url=project.url) as client:
        answer = await client.options("/rest/v1/labels", headers=headers)
        assert answer.status_code == 200
        assert "PATCH" in answer.headers["access-control-allow-methods"]
        assert "x-client-info" in answer.headers["access-control-allow-headers"].lower()
    async with project.rest() as rest:
        answer = await rest.get("/labels", headers={"Origin": "http://example.test"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "content-range" in answer.headers["access-control-expose-headers"].lower()


async def test_reads_are_capped(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No read returns more than max_rows, whatever it asks for; the count is not cut."""
    migration = "create table public.many (id int); insert into public.many select generate_series(1, 30);"
    async with open_project(tmp_path_factory.mktemp("capped"), migration, max_rows=10) as capped, capped.rest() as rest:
        answer = await rest.get("/many?limit=20", headers={"Prefer": "count=exact"})
        assert (answer.status_code, len(answer.json()), answer.headers["content-range"]) == (206, 10, "0-9/30")


async def test_postgres_killed_and_restarted(tmp_path_factory: pytest.TempPathFactory) -> None:
    """While it is away: 503 with Retry-After. Once it is back, the same service answers, the first time it is asked."""
    async with open_project(tmp_path_factory.mktemp("killed")) as killed, killed.rest(key=killed.secret) as rest:
        assert await asyncio.gather(*(status_of(rest) for _ in range(20))) == [200] * 20
        for _ in range(3):
            killed.postgres.kill()
            answer = await rest.get("/labels")
            assert (answer.status_code, answer.json()["code"]) == (503, "PGRST001")
            assert int(answer.headers["retry-after"]) > 0
            killed.postgres.start()
            assert await asyncio.gather(*(status_of(rest) for _ in range(20))) == [200] * 20


async def status_of(rest: httpx.AsyncClient) -> int:
    return (await rest.get("/labels")).status_code


async def test_a_call_cut_off_by_a_kill_is_a_503(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A request in flight when the server dies gets an answer, not a hang."""
    migration = (
        "create function public.wait() returns int language sql as 'select 1 from pg_sleep(60)';"
        "alter role service_role set statement_timeout = 0;"
    )
    async with open_project(tmp_path_factory.mktemp("cut"), migration) as cut, cut.rest(key=cut.secret) as rest:
        waiting = asyncio.create_task(rest.post("/rpc/wait"))
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not cut.sql(
            "select 1 from pg_stat_activity where query like '%pgrst_call%' and usename = 'authenticator'"
        ):
            assert not waiting.done(), waiting.result().text
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        cut.postgres.kill()
        assert (await waiting).status_code == 503
        cut.postgres.start()


async def test_a_statement_that_takes_too_long(library: Project) -> None:
    """The role's statement_timeout ends it: 500 with 57014, and the connection serves on."""
    library.sql("create or replace function public.slow() returns int language sql as 'select 1 from pg_sleep(30)'")
    library.sql("alter function public.slow() set statement_timeout = '50ms'")
    async with library.rest() as rest:
        answer = await rest.post("/rpc/slow")
        assert (answer.status_code, answer.json()["code"]) == (500, "57014")
        assert (await rest.get("/labels")).status_code == 200
