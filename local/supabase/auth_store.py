"""Users, sessions and refresh tokens in the schema `auth`, as supabase_auth_admin."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import psycopg

from local.supabase.auth_errors import bad_refresh_token, email_taken, used_refresh_token, user_not_found
from local.supabase.pool import Connection, Pool

USER = """
select jsonb_build_object(
  'id', u.id, 'aud', u.aud, 'role', u.role, 'email', coalesce(u.email, ''), 'phone', coalesce(u.phone, ''),
  'email_confirmed_at', u.email_confirmed_at, 'confirmed_at', u.confirmed_at, 'last_sign_in_at', u.last_sign_in_at,
  'app_metadata', coalesce(u.raw_app_meta_data, '{}'), 'user_metadata', coalesce(u.raw_user_meta_data, '{}'),
  'identities', coalesce((
    select jsonb_agg(jsonb_build_object(
      'identity_id', i.id, 'id', i.provider_id, 'user_id', i.user_id, 'identity_data', i.identity_data,
      'provider', i.provider, 'last_sign_in_at', i.last_sign_in_at, 'created_at', i.created_at,
      'updated_at', i.updated_at, 'email', i.email) order by i.created_at)
    from auth.identities i where i.user_id = u.id), '[]'),
  'created_at', u.created_at, 'updated_at', u.updated_at, 'banned_until', u.banned_until,
  'is_anonymous', u.is_anonymous), u.encrypted_password
from auth.users u
"""
OPTIONAL = ("email_confirmed_at", "confirmed_at", "last_sign_in_at", "banned_until")
REVOKE = "update auth.refresh_tokens set revoked = true, updated_at = now() where session_id = $1 and not revoked"


@dataclass(frozen=True)
class User:
    """A user as clients see them, and the hash of their password, which nobody sees."""

    public: dict[str, Any]
    encrypted_password: str | None

    @property
    def id(self) -> UUID:
        """The user's id."""
        return UUID(self.public["id"])


@dataclass(frozen=True)
class NewUser:
    """What a user begins with. Without an email they are anonymous."""

    email: str | None = None
    encrypted_password: str | None = None
    confirmed: bool = True
    user_metadata: dict[str, Any] | None = None
    app_metadata: dict[str, Any] | None = None
    role: str = "authenticated"
    id: UUID | None = None


@dataclass(frozen=True)
class Session:
    """A signed-in session: whose, and the refresh token that continues it. `method` is how it began."""

    id: UUID
    user_id: UUID
    refresh_token: str
    method: str
    began_at: int


class Users:
    """The users. Every method raises psycopg.OperationalError when there is no database."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def by_id(self, user_id: UUID) -> User:
        """Raises AuthError (404)."""
        async with self._pool.connection() as connection:
            return await _one_user(connection, "where u.id = $1 and u.deleted_at is null", user_id)

    async def by_email(self, email: str) -> User | None:
        """Whoever has the address."""
        async with self._pool.connection() as connection:
            where = f"{USER} where u.email = $1 and u.deleted_at is null"
            row = await (await connection.execute(where.encode(), [email.lower()])).fetchone()
            return _user(row) if row is not None else None

    async def page(self, number: int, size: int) -> tuple[list[dict[str, Any]], int]:
        """A page of users, oldest first, and how many there are in all."""
        async with self._pool.connection() as connection:
            count = await (await connection.execute("select count(*) from auth.users")).fetchone()
            listed = f"{USER} where u.deleted_at is null order by u.created_at, u.id limit $1 offset $2"
            rows = await (await connection.execute(listed.encode(), [size, (number - 1) * size])).fetchall()
            return [_user(row).public for row in rows], int(count[0]) if count else 0

    async def create(self, new: NewUser, taken: str = "user_already_exists") -> User:
        """Raises AuthError (422, with the code `taken`) when the address is in use."""
        async with self._transaction(taken) as connection:
            user_id = new.id or uuid4()
            provider = {"provider": "email", "providers": ["email"]} if new.email else {}
            await connection.execute(
                "insert into auth.users (instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, "
                "raw_app_meta_data, raw_user_meta_data, created_at, updated_at, is_anonymous) values "
                "('00000000-0000-0000-0000-000000000000', $1, 'authenticated', $2, $3, $4, "
                "case when $5::boolean then now() end, $6, $7, now(), now(), $8)",
                [
                    user_id, new.role, new.email, new.encrypted_password, new.confirmed and new.email is not None,
                    json.dumps(provider | (new.app_metadata or {})), json.dumps(new.user_metadata or {}),
                    new.email is None,
                ],
            )  # fmt: skip
            if new.email is not None:
                await _identify(connection, user_id, new.email)
            return await _one_user(connection, "where u.id = $1", user_id)

    async def update(self, user_id: UUID, changes: dict[str, Any]) -> User:
        """Set these columns of auth.users; the two metadata columns are merged, where null removes a member.

        A new email replaces the identity and ends anonymity. Raises AuthError (404, or 422 when the address is taken).
        """
        async with self._transaction("email_exists") as connection:
            if changes:
                assigned = ", ".join(_assignment(name, place) for place, name in enumerate(changes, 2))
                values = [json.dumps(one) if isinstance(one, dict) else one for one in changes.values()]
                sql = f"update auth.users u set {assigned}, updated_at = now() where id = $1"  # noqa: S608 our names
                await connection.execute(sql.encode(), [user_id, *values])
            if "email" in changes:
                await _change_identity(connection, user_id, str(changes["email"]))
            return await _one_user(connection, "where u.id = $1", user_id)

    async def delete(self, user_id: UUID, *, softly: bool) -> None:
        """Remove the user and all that refers to them; softly, the row stays, without address and password."""
        async with self._transaction() as connection:
            await _one_user(connection, "where u.id = $1", user_id)
            if not softly:
                await connection.execute("delete from auth.users where id = $1", [user_id])
                return
            await connection.execute("delete from auth.sessions where user_id = $1", [user_id])
            await connection.execute("delete from auth.identities where user_id = $1", [user_id])
            await connection.execute(
                "update auth.users set deleted_at = now(), email = null, phone = null, encrypted_password = null, "
                "raw_user_meta_data = '{}' where id = $1",
                [user_id],
            )

    async def sign_in(self, user_id: UUID, method: str, user_agent: str | None) -> Session:
        """A new session."""
        async with self._transaction() as connection:
            session_id = uuid4()
            await connection.execute(
                "insert into auth.sessions (id, user_id, created_at, updated_at, aal, user_agent) "
                "values ($1, $2, now(), now(), 'aal1', $3)",
                [session_id, user_id, user_agent],
            )
            await connection.execute(
                "insert into auth.mfa_amr_claims (session_id, created_at, updated_at, authentication_method) "
                "values ($1, now(), now(), $2)",
                [session_id, method],
            )
            await connection.execute("update auth.users set last_sign_in_at = now() where id = $1", [user_id])
            token = await _new_token(connection, session_id, user_id, None)
            return await _session(connection, session_id, token)

    async def refresh(self, token: str, reuse_seconds: int) -> Session:
        """Exchange a refresh token. Raises AuthError; one that was used before closes the whole session.

        Used before is forgiven for the last one before the current (its answer was lost) and for `reuse_seconds`.
        """
        async with self._transaction() as connection:
            session_id, user_id, revoked, recent = await _held_token(connection, token, reuse_seconds)
            current = await _current_token(connection, session_id) if revoked else None
            if current is not None and current[1] == token:
                return await _session(connection, session_id, current[0])
            if not revoked or recent:
                await connection.execute(REVOKE, [session_id])
                fresh = await _new_token(connection, session_id, user_id, token)
                await connection.execute("update auth.sessions set refreshed_at = now() where id = $1", [session_id])
                return await _session(connection, session_id, fresh)
            # Long ago, so that no token of this session is forgiven for being used before only recently.
            await connection.execute(
                "update auth.refresh_tokens set revoked = true, updated_at = 'epoch' where session_id = $1",
                [session_id],
            )
        raise used_refresh_token()

    async def has_session(self, session_id: UUID) -> bool:
        """Whether the session is still open."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute("select from auth.sessions where id = $1", [session_id])
            return await cursor.fetchone() is not None

    async def sign_out(self, user_id: UUID, session_id: UUID | None, scope: str) -> None:
        """Close the session (`local`), the user's others (`others`), or all of them (`global`)."""
        condition = {"local": "and id = $2", "others": "and id <> $2", "global": "and ($2::uuid is null or true)"}[
            scope
        ]
        async with self._pool.connection() as connection:
            sql = f"delete from auth.sessions where user_id = $1 {condition}"  # noqa: S608 one of three
            await connection.execute(sql.encode(), [user_id, session_id])

    @contextlib.asynccontextmanager
    async def _transaction(self, taken: str = "email_exists") -> AsyncIterator[Connection]:
        try:
            async with self._pool.connection() as connection, connection.transaction():
                yield connection
        except psycopg.errors.UniqueViolation as error:
            raise email_taken(taken) from error


def _user(row: tuple[Any, ...]) -> User:
    public = {key: value for key, value in row[0].items() if value is not None or key not in OPTIONAL}
    return User(public, row[1])


async def _one_user(connection: Connection, where: str, user_id: UUID) -> User:
    row = await (await connection.execute(f"{USER} {where}".encode(), [user_id])).fetchone()
    if row is None:
        raise user_not_found()
    return _user(row)


def _assignment(name: str, place: int) -> str:
    if name.endswith("_meta_data"):
        merged = f"coalesce(u.{name}, '{{}}') || ${place}::jsonb"
        kept = f"from jsonb_each({merged}) where value <> 'null'"
        return f"{name} = (select coalesce(jsonb_object_agg(key, value), '{{}}') {kept})"
    return f"{name} = ${place}"


async def _identify(connection: Connection, user_id: UUID, email: str) -> None:
    data = {"sub": str(user_id), "email": email, "email_verified": True, "phone_verified": False}
    await connection.execute(
        "insert into auth.identities "
        "(provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at) "
        "values ($1::text, $2, $3, 'email', now(), now(), now())",
        [str(user_id), user_id, json.dumps(data)],
    )


async def _change_identity(connection: Connection, user_id: UUID, email: str) -> None:
    await connection.execute("delete from auth.identities where user_id = $1 and provider = 'email'", [user_id])
    await _identify(connection, user_id, email)
    await connection.execute(
        "update auth.users set is_anonymous = false, email_confirmed_at = now(), raw_app_meta_data = "
        """coalesce(raw_app_meta_data, '{}') || '{"provider": "email", "providers": ["email"]}' where id = $1""",
        [user_id],
    )


async def _new_token(connection: Connection, session_id: UUID, user_id: UUID, parent: str | None) -> str:
    token = secrets.token_urlsafe(24)
    await connection.execute(
        "insert into auth.refresh_tokens (token, user_id, revoked, created_at, updated_at, parent, session_id) "
        "values ($1, $2, false, now(), now(), $3, $4)",
        [token, str(user_id), parent, session_id],
    )
    return token


async def _held_token(connection: Connection, token: str, reuse_seconds: int) -> tuple[UUID, UUID, bool, bool]:
    """(session, user, revoked, revoked only recently). Two exchanges of one session wait for each other here."""
    cursor = await connection.execute(
        "select s.id, s.user_id, t.revoked, t.updated_at > clock_timestamp() - make_interval(secs => $2) "
        "from auth.refresh_tokens t join auth.sessions s on s.id = t.session_id where t.token = $1 for update of s",
        [token, reuse_seconds],
    )
    if await cursor.fetchone() is None:
        raise bad_refresh_token()
    # Read again under the lock: who held it may have exchanged this very token.
    cursor = await connection.execute(
        "select s.id, s.user_id, t.revoked, t.updated_at > clock_timestamp() - make_interval(secs => $2) "
        "from auth.refresh_tokens t join auth.sessions s on s.id = t.session_id where t.token = $1",
        [token, reuse_seconds],
    )
    row = await cursor.fetchone()
    if row is None:
        raise bad_refresh_token()
    return row[0], row[1], bool(row[2]), bool(row[3])


async def _current_token(connection: Connection, session_id: UUID) -> tuple[str, str | None] | None:
    cursor = await connection.execute(
        "select token, parent from auth.refresh_tokens where session_id = $1 and not revoked order by id desc limit 1",
        [session_id],
    )
    return await cursor.fetchone()


async def _session(connection: Connection, session_id: UUID, token: str) -> Session:
    cursor = await connection.execute(
        "select s.user_id, a.authentication_method, extract(epoch from a.created_at)::bigint "
        "from auth.sessions s join auth.mfa_amr_claims a on a.session_id = s.id where s.id = $1",
        [session_id],
    )
    row = await cursor.fetchone()
    if row is None:
        raise bad_refresh_token()
    return Session(session_id, row[0], token, str(row[1]), int(row[2]))
