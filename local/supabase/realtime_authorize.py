"""What the policies on realtime.messages allow a caller on a topic, asked of Postgres itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import NamedTuple, Self

import psycopg
from psycopg.conninfo import make_conninfo

from local.supabase.keys import Caller, Keyring, TokenRefusedError
from local.supabase.pool import Pool, PoolTimeoutError

STATEMENT_TIMEOUT = "10s"
QUERY_CANCELED = "57014"
POOL_SIZE = 4

log = logging.getLogger(__name__)


class DatabaseUnavailableError(Exception):
    """Postgres does not answer."""


class Identity(NamedTuple):
    """What Postgres is told of a caller: as good as the caller for everything that policies decide, and hashable."""

    role: str
    claims_json: str

    @classmethod
    def of(cls, caller: Caller) -> Self:
        """The caller's."""
        return cls(caller.role, caller.claims_json)


@dataclass(frozen=True)
class Policies:
    """What a caller may do on one private topic, by extension."""

    broadcast_read: bool = False
    presence_read: bool = False
    broadcast_write: bool = False
    presence_write: bool = False

    @property
    def readable(self) -> bool:
        """Whether it may join at all."""
        return self.broadcast_read or self.presence_read

    def revokes(self, earlier: Policies) -> bool:
        """Whether something that could be read under `earlier` cannot be any more."""
        return (earlier.broadcast_read and not self.broadcast_read) or (
            earlier.presence_read and not self.presence_read
        )


EVERYTHING = Policies(broadcast_read=True, presence_read=True, broadcast_write=True, presence_write=True)


def open_pool(dsn: str) -> Pool:
    """A small pool for questions that may not take long."""
    return Pool(make_conninfo(dsn, options=f"-c statement_timeout={STATEMENT_TIMEOUT}"), POOL_SIZE)


class Authorizer:
    """Asks Postgres, under the caller's role and claims, in a transaction that is rolled back."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def policies(self, topic: str, caller: Identity) -> Policies:
        """What `caller` may do on the private topic. Raises DatabaseUnavailableError.

        A policy that fails allows nothing, and is logged.
        """
        query = "select * from supabase_local.realtime_policies($1, $2, $3, '{}')"
        arguments = (topic, caller.role, caller.claims_json)
        try:
            async with self._pool.connection() as connection, connection.transaction(force_rollback=True):
                row = await (await connection.execute(query, arguments)).fetchone()
                return Policies(*row) if row is not None else Policies()
        except psycopg.Error as error:
            if isinstance(error, psycopg.OperationalError) and error.sqlstate != QUERY_CANCELED:
                raise DatabaseUnavailableError(str(error)) from error
            log.warning("RlsPolicyError: the policies failed for %s on %s: %s", caller.role, topic, error)
            return Policies()
        except PoolTimeoutError as error:
            raise DatabaseUnavailableError(str(error)) from error


def identify(keys: Keyring, by_key: Caller, token: str | None) -> Caller:
    """Who joins: the token's caller, or the API key's where there is no token (the SDKs then repeat the key).

    Raises TokenRefusedError, also for a token without `role` or `exp`.
    """
    if not token or token.startswith("sb_") or token == by_key.token:
        return by_key
    try:
        caller = keys.verify(token)
    except TokenRefusedError as error:
        raise TokenRefusedError("Token has expired" if error.expired else str(error), expired=error.expired) from error
    if not isinstance(caller.claims.get("exp"), int | float) or "role" not in caller.claims:
        raise TokenRefusedError("Fields `role` and `exp` are required in JWT")
    return caller
