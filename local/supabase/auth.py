"""Auth: the part of Supabase Auth (GoTrue) that README.md names. Addresses are confirmed at once; no mail is sent."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import psycopg
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from local.supabase.auth_errors import AuthError, invalid_credentials, user_not_found
from local.supabase.auth_passwords import hash_password, matches
from local.supabase.auth_requests import (
    AdminDelete,
    AdminUser,
    PasswordGrant,
    RefreshGrant,
    SignUp,
    UserUpdate,
    parse,
)
from local.supabase.auth_store import NewUser, Session, User, Users
from local.supabase.keys import Caller, KeyRefusedError, Keyring, TokenRefusedError
from local.supabase.pool import PoolTimeoutError
from local.supabase.settings import SupabaseSettings

TOKEN_SECONDS = 3600
PAGE_SIZE = 50
PREFIX = "/auth/v1"
SCOPES = ("global", "local", "others")
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600}

Endpoint = Callable[[Request], Awaitable[Response]]


class Auth:
    """The endpoints, with what they need."""

    def __init__(self, settings: SupabaseSettings, keyring: Keyring, users: Users) -> None:
        self._settings = settings
        self._keyring = keyring
        self._users = users

    def routes(self) -> list[BaseRoute]:
        """`/auth/v1/…`. All but the first three want an API key."""
        table: list[tuple[str, str, Endpoint]] = [
            ("GET", "/health", self.health),
            ("GET", "/.well-known/jwks.json", self.jwks),
            ("GET", "/settings", self.settings),
            ("POST", "/signup", self._keyed(self.sign_up)),
            ("POST", "/token", self._keyed(self.token)),
            ("GET", "/user", self._keyed(self.user)),
            ("PUT", "/user", self._keyed(self.update_user)),
            ("POST", "/logout", self._keyed(self.sign_out)),
            ("GET", "/admin/users", self._admin(self.list_users)),
            ("POST", "/admin/users", self._admin(self.create_user)),
            ("GET", "/admin/users/{id}", self._admin(self.get_user)),
            ("PUT", "/admin/users/{id}", self._admin(self.change_user)),
            ("DELETE", "/admin/users/{id}", self._admin(self.delete_user)),
        ]
        return [Route(PREFIX + path, _answering(endpoint), methods=[method]) for method, path, endpoint in table]

    async def health(self, _: Request) -> Response:
        """Alive."""
        return JSONResponse({"version": "local", "name": "GoTrue", "description": "Sandstream's local Auth"})

    async def jwks(self, _: Request) -> Response:
        """The public keys of users' tokens."""
        return JSONResponse(self._keyring.jwks(), headers={"Cache-Control": "public, max-age=600"})

    async def settings(self, _: Request) -> Response:
        """What this Auth offers."""
        return JSONResponse(
            {
                "external": {"anonymous_users": True, "email": True, "phone": False},
                "disable_signup": False,
                "mailer_autoconfirm": True,
                "phone_autoconfirm": False,
                "sms_provider": "",
                "saml_enabled": False,
            }
        )

    async def sign_up(self, request: Request) -> Response:
        """A new user, signed in."""
        body = await parse(request, SignUp)
        if body.phone:
            raise AuthError(400, "phone_provider_disabled", "Phone signups are disabled")
        if not body.email:
            user = await self._users.create(NewUser(user_metadata=body.data))
            return await self._signed_in(request, user, "anonymous")
        if not body.password:
            raise AuthError(400, "validation_failed", "Signup requires a valid password")
        hashed = await hash_password(body.password)
        user = await self._users.create(NewUser(body.email, hashed, user_metadata=body.data))
        return await self._signed_in(request, user, "password")

    async def token(self, request: Request) -> Response:
        """Sign in with a password, or continue a session with its refresh token."""
        match request.query_params.get("grant_type"):
            case "password":
                return await self._password_grant(request, await parse(request, PasswordGrant))
            case "refresh_token":
                return await self._refresh_grant(await parse(request, RefreshGrant))
            case _:
                raise AuthError(400, "invalid_credentials", "unsupported_grant_type")

    async def user(self, request: Request) -> Response:
        """Who the token is of."""
        return JSONResponse((await self._signed_in_user(request))[0].public)

    async def update_user(self, request: Request) -> Response:
        """Change one's own address, password or metadata."""
        user, _ = await self._signed_in_user(request)
        body = await parse(request, UserUpdate)
        if body.password and await matches(body.password, user.encrypted_password):
            message = "New password should be different from the old password."
            raise AuthError(422, "same_password", message)
        changes: dict[str, Any] = {"raw_user_meta_data": body.data} if body.data else {}
        changes |= await _credentials(body.email, body.password)
        return JSONResponse((await self._users.update(user.id, changes)).public)

    async def sign_out(self, request: Request) -> Response:
        """Close sessions; their refresh tokens end, access tokens live until they expire."""
        caller = self._bearer(request)
        scope = request.query_params.get("scope", "global")
        if scope not in SCOPES:
            raise AuthError(400, "validation_failed", f"Unsupported logout scope {scope!r}")
        await self._users.sign_out(_subject(caller), _session_id(caller), scope)
        return Response(status_code=204)

    async def list_users(self, request: Request) -> Response:
        """A page of all users."""
        number, size = _positive(request, "page", 1), _positive(request, "per_page", PAGE_SIZE)
        users, total = await self._users.page(number, size)
        headers = {"X-Total-Count": str(total), "Link": _links(number, size, total)}
        return JSONResponse({"users": users, "aud": "authenticated"}, headers=headers)

    async def create_user(self, request: Request) -> Response:
        """A user who is not signed in."""
        body = await parse(request, AdminUser)
        if not body.email:
            raise AuthError(400, "validation_failed", "Cannot create a user without either an email or phone")
        new = NewUser(
            body.email,
            await hash_password(body.password) if body.password else None,
            body.email_confirm,
            body.user_metadata,
            body.app_metadata,
            body.role or "authenticated",
            body.id,
        )
        return JSONResponse((await self._users.create(new, "email_exists")).public)

    async def get_user(self, request: Request) -> Response:
        """One user."""
        return JSONResponse((await self._users.by_id(_path_id(request))).public)

    async def change_user(self, request: Request) -> Response:
        """Change a user; the metadata given is merged."""
        body, user_id = await parse(request, AdminUser), _path_id(request)
        await self._users.by_id(user_id)
        changes: dict[str, Any] = await _credentials(body.email, body.password)
        changes |= {"raw_user_meta_data": body.user_metadata} if body.user_metadata else {}
        changes |= {"raw_app_meta_data": body.app_metadata} if body.app_metadata else {}
        changes |= {"role": body.role} if body.role else {}
        changes |= {"banned_until": _banned_until(body.ban_duration)} if body.ban_duration else {}
        return JSONResponse((await self._users.update(user_id, changes)).public)

    async def delete_user(self, request: Request) -> Response:
        """Remove a user with all that is theirs."""
        body = await parse(request, AdminDelete)
        await self._users.delete(_path_id(request), softly=body.should_soft_delete)
        return JSONResponse({})

    async def _password_grant(self, request: Request, body: PasswordGrant) -> Response:
        user = await self._users.by_email(body.email)
        right = await matches(body.password, user.encrypted_password if user is not None else None)
        if user is None or not right:
            raise invalid_credentials()
        if "email_confirmed_at" not in user.public:
            raise AuthError(400, "email_not_confirmed", "Email not confirmed")
        return await self._signed_in(request, user, "password")

    async def _refresh_grant(self, body: RefreshGrant) -> Response:
        session = await self._users.refresh(body.refresh_token, self._settings.refresh_reuse_seconds)
        user = await self._users.by_id(session.user_id)
        _refuse_banned(user)
        return self._session_response(user, session)

    async def _signed_in(self, request: Request, user: User, method: str) -> Response:
        _refuse_banned(user)
        session = await self._users.sign_in(user.id, method, request.headers.get("user-agent"))
        return self._session_response(await self._users.by_id(user.id), session)

    def _session_response(self, user: User, session: Session) -> Response:
        now = int(time.time())
        answer = {
            "access_token": self._keyring.sign(_claims(self._settings.issuer, user, session, now)),
            "token_type": "bearer",
            "expires_in": TOKEN_SECONDS,
            "expires_at": now + TOKEN_SECONDS,
            "refresh_token": session.refresh_token,
            "user": user.public,
            "weak_password": None,
        }
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    async def _signed_in_user(self, request: Request) -> tuple[User, Caller]:
        """Raises AuthError unless the token is a user's, and the user and the session are still there."""
        caller = self._bearer(request)
        session_id = _session_id(caller)
        if session_id is not None and not await self._users.has_session(session_id):
            raise AuthError(403, "session_not_found", "Session from session_id claim in JWT does not exist")
        try:
            return await self._users.by_id(_subject(caller)), caller
        except AuthError as error:
            raise AuthError(403, "user_not_found", "User from sub claim in JWT does not exist") from error

    def _bearer(self, request: Request) -> Caller:
        """The user whose token the request bears: ours, for us, and of a user."""
        caller = self._caller(request)
        if caller.token is None:
            raise AuthError(401, "no_authorization", "This endpoint requires a valid Bearer token")
        if caller.claims.get("aud") != "authenticated" or caller.claims.get("iss") != self._settings.issuer:
            raise AuthError(403, "bad_jwt", "invalid claim: the token is not one of this service's users")
        return caller

    def _caller(self, request: Request) -> Caller:
        apikey = request.headers.get("apikey") or request.query_params.get("apikey")
        try:
            return self._keyring.caller(apikey, request.headers.get("authorization"))
        except TokenRefusedError as error:
            message = f"invalid JWT: unable to parse or verify signature, {error}"
            raise AuthError(403, "bad_jwt", message) from error

    def _keyed(self, endpoint: Endpoint) -> Endpoint:
        """Refuses who has no API key, before anything else."""

        @functools.wraps(endpoint)
        async def checked(request: Request) -> Response:
            self._keyring.caller(request.headers.get("apikey") or request.query_params.get("apikey"), None)
            return await endpoint(request)

        return checked

    def _admin(self, endpoint: Endpoint) -> Endpoint:
        """Refuses who is not the service."""

        @functools.wraps(endpoint)
        async def checked(request: Request) -> Response:
            if self._caller(request).role not in ("service_role", "supabase_admin"):
                raise AuthError(403, "not_admin", "User not allowed")
            return await endpoint(request)

        return checked


def _answering(endpoint: Endpoint) -> Endpoint:
    """Turns refusals into their answers."""

    @functools.wraps(endpoint)
    async def answering(request: Request) -> Response:
        try:
            return await endpoint(request)
        except AuthError as error:
            return JSONResponse(error.body, error.status)
        except KeyRefusedError as error:
            return JSONResponse({"message": str(error)}, 401)
        except psycopg.DataError as error:
            return JSONResponse(AuthError(400, "validation_failed", str(error)).body, 400)
        except (psycopg.OperationalError, PoolTimeoutError):
            refusal = AuthError(503, "unexpected_failure", "The database is not reachable")
            return JSONResponse(refusal.body, 503, {"Retry-After": "1"})

    return answering


async def _credentials(email: str | None, password: str | None) -> dict[str, Any]:
    changes: dict[str, Any] = {"email": email} if email else {}
    return changes | ({"encrypted_password": await hash_password(password)} if password else {})


def _claims(issuer: str, user: User, session: Session, now: int) -> dict[str, Any]:
    public = user.public
    return {
        "iss": issuer,
        "sub": public["id"],
        "aud": public["aud"],
        "exp": now + TOKEN_SECONDS,
        "iat": now,
        "email": public["email"],
        "phone": public["phone"],
        "app_metadata": public["app_metadata"],
        "user_metadata": public["user_metadata"],
        "role": public["role"],
        "aal": "aal1",
        "amr": [{"method": session.method, "timestamp": session.began_at}],
        "session_id": str(session.id),
        "is_anonymous": public["is_anonymous"],
    }


def _refuse_banned(user: User) -> None:
    until = user.public.get("banned_until")
    if until is not None and until > time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()):
        raise AuthError(400, "user_banned", "User is banned")


def _banned_until(duration: str) -> str | None:
    """`none` lifts a ban. Raises AuthError (400)."""
    if duration == "none":
        return None
    parts = re.findall(r"(\d+)([hms])", duration)
    if not parts or "".join(number + unit for number, unit in parts) != duration:
        raise AuthError(400, "validation_failed", f"Invalid format for ban duration: {duration}")
    seconds = sum(int(number) * UNIT_SECONDS[unit] for number, unit in parts)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def _subject(caller: Caller) -> UUID:
    try:
        return UUID(str(caller.claims.get("sub")))
    except ValueError:
        raise AuthError(403, "bad_jwt", "invalid claim: missing sub claim") from None


def _session_id(caller: Caller) -> UUID | None:
    try:
        return UUID(str(caller.claims["session_id"]))
    except (KeyError, ValueError):
        return None


def _path_id(request: Request) -> UUID:
    try:
        return UUID(request.path_params["id"])
    except ValueError:
        raise user_not_found() from None


def _positive(request: Request, name: str, default: int) -> int:
    value = request.query_params.get(name, "")
    if value and not (value.isdecimal() and int(value) > 0):
        raise AuthError(400, "validation_failed", f"Bad Pagination Parameters: {name} is not a positive number")
    return int(value) if value else default


def _links(number: int, size: int, total: int) -> str:
    last = max(1, -(-total // size))
    pages = ({"next": number + 1} if number < last else {}) | {"last": last}
    return ", ".join(
        f'<{PREFIX}/admin/users?page={page}&per_page={size}>; rel="{name}"' for name, page in pages.items()
    )
