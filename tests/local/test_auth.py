"""Auth, through the unmodified supabase-py clients, and by plain HTTP in the corners."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from typing import Any

import httpx
import jwt
import pytest
from jwt.algorithms import ECAlgorithm
from supabase_auth.errors import AuthApiError, AuthWeakPasswordError

from tests.local.supabase_world import Project, open_project

PASSWORD = "correct horse"


def new_email() -> str:
    return f"{secrets.token_hex(6)}@people.test"


async def signed_up(project: Project, **more: Any) -> dict[str, Any]:
    """A new user's session, by plain HTTP."""
    async with project.auth() as auth:
        answer = await auth.post("/signup", json={"email": new_email(), "password": PASSWORD, **more})
    answer.raise_for_status()
    session: dict[str, Any] = answer.json()
    return session


async def refreshed(project: Project, token: str) -> httpx.Response:
    async with project.auth() as auth:
        return await auth.post("/token?grant_type=refresh_token", json={"refresh_token": token})


async def refusal(auth: httpx.AsyncClient, path: str, body: Any) -> tuple[int, str]:
    answer = await auth.post(path, json=body)
    return answer.status_code, answer.json()["error_code"]


async def test_sign_up_and_in(project: Project) -> None:
    """A new user is signed in at once, and again later by address (in any case) and password."""
    email = new_email()
    async with project.sdk() as client:
        created = await client.auth.sign_up(
            {"email": email, "password": PASSWORD, "options": {"data": {"name": "Ada"}}}
        )
        assert created.session is not None
        assert created.user is not None
        assert (created.user.email, created.user.user_metadata, created.user.is_anonymous) == (
            email,
            {"name": "Ada"},
            False,
        )
        async with project.sdk() as other:
            session = await other.auth.sign_in_with_password({"email": email.upper(), "password": PASSWORD})
            assert session.user is not None
            assert session.user.id == created.user.id
            assert session.user.app_metadata == {"provider": "email", "providers": ["email"]}
            known = await other.auth.get_user()
            assert known is not None
            assert [one.provider for one in known.user.identities or []] == ["email"]


async def test_the_sync_client(project: Project) -> None:
    """Sign-up, user, refresh and sign-out through the synchronous client."""

    def use() -> None:
        with project.sync_sdk() as client:
            created = client.auth.sign_up({"email": new_email(), "password": PASSWORD})
            assert created.session is not None
            known = client.auth.get_user()
            assert known is not None
            assert created.user is not None
            assert known.user.id == created.user.id
            again = client.auth.refresh_session()
            assert again.session is not None
            assert again.session.refresh_token != created.session.refresh_token
            client.auth.sign_out()
            assert client.auth.get_session() is None

    await asyncio.to_thread(use)


async def test_anonymous_users(project: Project) -> None:
    """Without an email: a user with a token of their own, who keeps their id when they take an address."""
    async with project.sdk() as client:
        created = await client.auth.sign_in_anonymously({"options": {"data": {"seat": 1}}})
        assert created.user is not None
        assert (created.user.is_anonymous, created.user.user_metadata) == (True, {"seat": 1})
        email = new_email()
        updated = await client.auth.update_user({"email": email, "password": PASSWORD})
        assert (updated.user.id, updated.user.email, updated.user.is_anonymous) == (created.user.id, email, False)
        signed_in = await client.auth.sign_in_with_password({"email": email, "password": PASSWORD})
        assert signed_in.user is not None
        assert signed_in.user.id == created.user.id


async def test_the_tokens_claims(project: Project) -> None:
    """ES256 by the published key; aud, iss, role, sub, session, one hour."""
    session = await signed_up(project)
    async with httpx.AsyncClient(base_url=project.url) as open_client:
        jwk = (await open_client.get("/auth/v1/.well-known/jwks.json")).json()["keys"][0]
    assert "d" not in jwk
    assert jwt.get_unverified_header(session["access_token"])["kid"] == jwk["kid"]
    claims = jwt.decode(
        session["access_token"], ECAlgorithm.from_jwk(jwk), ["ES256"],  # type: ignore[arg-type]
        audience="authenticated", issuer=f"{project.url}/auth/v1",
    )  # fmt: skip
    assert claims["exp"] - claims["iat"] == session["expires_in"] == 3600
    assert (claims["role"], claims["sub"], claims["is_anonymous"]) == ("authenticated", session["user"]["id"], False)
    assert (claims["email"], claims["aal"]) == (session["user"]["email"], "aal1")
    assert uuid.UUID(claims["session_id"])
    assert claims["amr"][0]["method"] == "password"


async def test_the_token_is_known_to_rest(library: Project) -> None:
    """auth.uid() in a policy is the user who signed up."""
    session = await signed_up(library)
    async with library.rest(session["access_token"]) as rest:
        answer = await rest.post("/diaries", json={"owner": session["user"]["id"], "entry": "mine"})
        assert answer.status_code == 201
        assert len((await rest.get("/diaries")).json()) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"email": "no-at-sign", "password": PASSWORD}, 400, "validation_failed"),
        ({"email": "a@b", "password": PASSWORD}, 400, "validation_failed"),
        ({"email": "a b@c.de", "password": PASSWORD}, 400, "validation_failed"),
        ({"email": "a@b.de"}, 400, "validation_failed"),
        ({"email": "a@b.de", "password": "short"}, 422, "weak_password"),
        ({"email": "a@b.de", "password": "x" * 73}, 400, "validation_failed"),
        ({"phone": "+4912345", "password": PASSWORD}, 400, "phone_provider_disabled"),
        ({"email": 7}, 400, "validation_failed"),
        ({"email": "nul\0@b.de", "password": PASSWORD}, 400, "validation_failed"),
    ],
)
async def test_bad_sign_ups(project: Project, body: dict[str, Any], status: int, code: str) -> None:
    """Refused with the code that the clients switch on."""
    async with project.auth() as auth:
        assert await refusal(auth, "/signup", body) == (status, code)


async def test_the_clients_error_classes(project: Project) -> None:
    """The SDK makes its own exceptions of the refusals."""
    async with project.sdk() as client:
        with pytest.raises(AuthWeakPasswordError):
            await client.auth.sign_up({"email": new_email(), "password": "x"})
        with pytest.raises(AuthApiError) as refused:
            await client.auth.sign_in_with_password({"email": new_email(), "password": "wrong one"})
        assert (refused.value.status, refused.value.code) == (400, "invalid_credentials")


async def test_an_address_is_taken_once(project: Project) -> None:
    """Whoever comes second is refused, in any case of letters, and when both come at once."""
    email = new_email()
    async with project.auth() as auth:
        bodies = [{"email": email.upper() if n % 2 else email, "password": PASSWORD} for n in range(6)]
        answers = await asyncio.gather(*(auth.post("/signup", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200, 422, 422, 422, 422, 422]
    assert {one.json()["error_code"] for one in answers if one.status_code == 422} == {"user_already_exists"}


async def test_wrong_passwords_and_unknown_users_look_alike(project: Project) -> None:
    """The answer does not tell whether the address is known."""
    session = await signed_up(project)
    async with project.auth() as auth:
        body = {"email": session["user"]["email"], "password": "wrong one"}
        known = await auth.post("/token?grant_type=password", json=body)
        unknown = await auth.post("/token?grant_type=password", json={"email": new_email(), "password": "wrong one"})
    assert known.status_code == unknown.status_code == 400
    assert known.json() == unknown.json()


async def test_passwords_are_not_stored(project: Project) -> None:
    """What is stored is scrypt's, and differs for equal passwords."""
    await signed_up(project)
    await signed_up(project)
    rows = project.sql("select encrypted_password from auth.users where encrypted_password is not null")
    stored = [str(row[0]) for row in rows]
    assert len(stored) == len(set(stored))
    assert all(one.startswith("scrypt$") and PASSWORD not in one for one in stored)


async def test_refresh_rotates(project: Project) -> None:
    """Each refresh gives a new refresh token and an access token of the same session."""
    session = await signed_up(project)
    answer = await refreshed(project, session["refresh_token"])
    assert answer.status_code == 200
    fresh = answer.json()
    assert fresh["refresh_token"] != session["refresh_token"]
    old, new = (jwt.decode(one["access_token"], options={"verify_signature": False}) for one in (session, fresh))
    assert (old["session_id"], old["sub"], old["amr"]) == (new["session_id"], new["sub"], new["amr"])


async def test_a_lost_answer_is_forgiven(project: Project) -> None:
    """The token before the current one gives the current one again: the client may not have seen it."""
    session = await signed_up(project)
    first = (await refreshed(project, session["refresh_token"])).json()
    again = (await refreshed(project, session["refresh_token"])).json()
    assert again["refresh_token"] == first["refresh_token"]


async def test_reuse_closes_the_session(project: Project) -> None:
    """An older token, used again, is theft: it is refused, and so are all tokens of its session from then on."""
    session = await signed_up(project)
    tokens = [session["refresh_token"]]
    for _ in range(3):
        tokens.append((await refreshed(project, tokens[-1])).json()["refresh_token"])
    project.sql("update auth.refresh_tokens set updated_at = updated_at - interval '11 seconds'")
    for token in (tokens[0], tokens[-1], tokens[-2]):
        answer = await refreshed(project, token)
        assert (answer.status_code, answer.json()["error_code"]) == (400, "refresh_token_already_used")


async def test_reuse_is_forgiven_for_some_seconds(project: Project) -> None:
    """Tabs of one browser refresh on top of each other: for ten seconds an older token still serves."""
    session = await signed_up(project)
    first = (await refreshed(project, session["refresh_token"])).json()
    await refreshed(project, first["refresh_token"])
    assert (await refreshed(project, session["refresh_token"])).status_code == 200


async def test_refreshes_at_once_agree(project: Project) -> None:
    """Ten exchanges of one token at the same time: all succeed, with one and the same new token."""
    session = await signed_up(project)
    answers = await asyncio.gather(*(refreshed(project, session["refresh_token"]) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1


async def test_unknown_refresh_tokens(project: Project) -> None:
    """400 refresh_token_not_found."""
    answer = await refreshed(project, "never-issued")
    assert (answer.status_code, answer.json()["error_code"]) == (400, "refresh_token_not_found")


async def test_updating_oneself(project: Project) -> None:
    """Metadata is merged, where null removes; a password changes; the old one, and the same one, are refused."""
    email = new_email()
    async with project.sdk() as client:
        await client.auth.sign_up({"email": email, "password": PASSWORD, "options": {"data": {"a": 1, "b": 2}}})
        updated = await client.auth.update_user({"data": {"b": None, "c": {"d": 3}}})
        assert updated.user.user_metadata == {"a": 1, "c": {"d": 3}}
        with pytest.raises(AuthApiError, match="different"):
            await client.auth.update_user({"password": PASSWORD})
        await client.auth.update_user({"password": "another one"})
        with pytest.raises(AuthApiError, match="Invalid login"):
            await client.auth.sign_in_with_password({"email": email, "password": PASSWORD})
        assert (
            await client.auth.sign_in_with_password({"email": email, "password": "another one"})
        ).session is not None


async def test_sign_out_scopes(project: Project) -> None:
    """`local` closes this session, `others` the others, `global` all."""
    email = new_email()
    async with project.auth() as auth:
        body = {"email": email, "password": PASSWORD}
        sessions = [(await auth.post("/signup", json=body)).json()]
        sessions += [(await auth.post("/token?grant_type=password", json=body)).json() for _ in range(3)]

    async def out(which: int, scope: str) -> list[int]:
        async with project.auth(sessions[which]["access_token"]) as auth:
            assert (await auth.post(f"/logout?scope={scope}")).status_code == 204
        statuses = []
        for session in sessions:
            async with project.auth(session["access_token"]) as auth:
                statuses.append((await auth.get("/user")).status_code)
        return statuses

    assert await out(0, "local") == [403, 200, 200, 200]
    assert await out(1, "others") == [403, 200, 403, 403]
    assert (await refreshed(project, sessions[2]["refresh_token"])).status_code == 400
    assert await out(1, "global") == [403, 403, 403, 403]


async def test_tokens_that_are_not_a_users(project: Project) -> None:
    """The endpoints of a user take only a token that this Auth made for a user who is still there."""
    issuer = f"{project.url}/auth/v1"
    nobody = {"sub": str(uuid.uuid4()), "aud": "authenticated", "iss": issuer}
    tokens = {
        "key only": (None, 401),
        "a runner's": (project.token("runner", **(nobody | {"aud": "runner"})), 403),
        "another issuer's": (project.token(**(nobody | {"iss": "https://elsewhere.test/auth/v1"})), 403),
        "nobody's": (project.token(**nobody), 403),
        "expired": (project.token(seconds=-5, **nobody), 403),
        "without a subject": (project.token(aud="authenticated", iss=issuer), 403),
        "nonsense": ("x.y.z", 403),
    }
    for name, (token, status) in tokens.items():
        async with project.auth(token) as auth:
            assert (await auth.get("/user")).status_code == status, name


async def test_administration(project: Project) -> None:
    """The secret key creates, lists, reads, changes, bans and deletes users."""
    email = new_email()
    async with project.sdk(project.secret) as client:
        admin = client.auth.admin
        attributes: Any = {"email": email, "password": PASSWORD, "email_confirm": True, "app_metadata": {"plan": "pro"}}
        created = (await admin.create_user(attributes)).user
        assert created.app_metadata["plan"] == "pro"
        listed = await admin.list_users(page=1, per_page=1000)
        assert created.id in [user.id for user in listed]
        assert (await admin.get_user_by_id(created.id)).user.email == email
        changed = (
            await admin.update_user_by_id(created.id, {"user_metadata": {"x": 1}, "app_metadata": {"y": 2}})
        ).user
        assert (changed.user_metadata["x"], changed.app_metadata["plan"], changed.app_metadata["y"]) == (1, "pro", 2)
        async with project.sdk() as person:
            await admin.update_user_by_id(created.id, {"ban_duration": "24h"})
            with pytest.raises(AuthApiError, match="banned"):
                await person.auth.sign_in_with_password({"email": email, "password": PASSWORD})
            await admin.update_user_by_id(created.id, {"ban_duration": "none"})
            await person.auth.sign_in_with_password({"email": email, "password": PASSWORD})
            await admin.delete_user(created.id)
            with pytest.raises(AuthApiError) as refused:
                await admin.get_user_by_id(created.id)
            assert refused.value.code == "user_not_found"


async def test_lists_are_paged(project: Project) -> None:
    """Pages do not overlap, and the headers tell how many there are."""
    for _ in range(3):
        await signed_up(project)
    async with project.auth(key=project.secret) as auth:
        pages = [await auth.get(f"/admin/users?page={page}&per_page=1") for page in (1, 2)]
        assert (await auth.get("/admin/users?page=0")).status_code == 400
    assert pages[0].json()["users"][0]["id"] != pages[1].json()["users"][0]["id"]
    assert int(pages[0].headers["x-total-count"]) >= 3
    assert 'rel="next"' in pages[0].headers["link"]


async def test_an_unconfirmed_address(project: Project) -> None:
    """A user made without confirmation cannot sign in yet."""
    email = new_email()
    async with project.auth(key=project.secret) as auth:
        assert (await auth.post("/admin/users", json={"email": email, "password": PASSWORD})).status_code == 200
        body = {"email": email, "password": PASSWORD}
        assert await refusal(auth, "/token?grant_type=password", body) == (400, "email_not_confirmed")
        assert await refusal(auth, "/admin/users", body) == (422, "email_exists")


async def test_soft_deletion(project: Project) -> None:
    """The row stays, without address or sessions; the address is free again."""
    session = await signed_up(project)
    email = session["user"]["email"]
    async with project.auth(key=project.secret) as auth:
        path = f"/admin/users/{session['user']['id']}"
        assert (await auth.request("DELETE", path, json={"should_soft_delete": True})).status_code == 200
        assert (await auth.get(path)).status_code == 404
    assert project.sql(f"select email from auth.users where id = '{session['user']['id']}'") == [(None,)]
    assert (await refreshed(project, session["refresh_token"])).status_code == 400
    async with project.auth() as auth:
        assert (await auth.post("/signup", json={"email": email, "password": PASSWORD})).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_administration_is_the_services(project: Project, method: str) -> None:
    """Neither a user nor the publishable key administers; a user with the secret key at hand is still a user."""
    token = (await signed_up(project))["access_token"]
    for client in (project.auth(), project.auth(token), project.auth(token, key=project.secret)):
        async with client as auth:
            answer = await auth.request(method, "/admin/users", json={"email": new_email()})
            assert (answer.status_code, answer.json()["error_code"]) == (403, "not_admin")


async def test_keys_are_required(project: Project) -> None:
    """No key, no sign-up; health, settings and public keys are open."""
    async with httpx.AsyncClient(base_url=f"{project.url}/auth/v1") as auth:
        assert (await auth.post("/signup", json={})).status_code == 401
        for path in ("/health", "/settings", "/.well-known/jwks.json"):
            assert (await auth.get(path)).status_code == 200


async def test_unknown_grants(project: Project) -> None:
    """A grant that is not served is refused, not ignored."""
    async with project.auth() as auth:
        for grant in ("pkce", "id_token", ""):
            assert (await auth.post(f"/token?grant_type={grant}", json={})).status_code == 400
        assert (await auth.post("/signup", content=b"{")).json()["error_code"] == "bad_json"


async def test_postgres_away(tmp_path_factory: pytest.TempPathFactory) -> None:
    """503 with Retry-After while the database is away; afterwards sessions go on."""
    async with open_project(tmp_path_factory.mktemp("away")) as away:
        session = await signed_up(away)
        away.postgres.kill()
        answer = await refreshed(away, session["refresh_token"])
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        away.postgres.start()
        assert (await refreshed(away, session["refresh_token"])).status_code == 200
