"""Watch tokens: what a browser is given so that it can follow one session for a while, and do nothing else."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import jwt
from pydantic import Field

from functions.errors import NotAuthenticated
from functions.identity import KEY_CLAIM, RUN_TOKEN_ISSUER, Caller, Signer
from functions.models import Answer, Request
from functions.settings import Settings

WATCHER = "watcher"
MAX_SECONDS = 3600


class WatchRequest(Request):
    """The body of `POST /v1/sessions/{id}/token`."""

    expires_in_seconds: Annotated[int, Field(ge=1, le=MAX_SECONDS)] = MAX_SECONDS


class WatchToken(Answer):
    """A watch token, and where to take it: all that a client needs to follow the session over Supabase."""

    type: Literal["watch_token"] = "watch_token"
    token: str
    expires_at: datetime
    session_id: UUID
    supabase_url: str
    publishable_key: str


class WatchTokens:
    """Mints and verifies watch tokens."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._signer = Signer(settings)

    def mint(self, session_id: UUID, caller: Caller, lifetime_seconds: int) -> WatchToken:
        """A token for a session of the caller's. The one that a key asked for goes with the key.

        Its `session_id` is also what keeps it from their account: Supabase Auth takes that claim for a sign-in of its
        own, of which there is none, and refuses.
        """
        claims = {
            "role": WATCHER,
            "aud": WATCHER,
            "iss": RUN_TOKEN_ISSUER,
            "sub": str(caller.owner),
            "session_id": str(session_id),
            **({KEY_CLAIM: caller.key.id} if caller.key else {}),
        }
        token = self._signer.sign(claims, lifetime_seconds)
        return WatchToken(
            token=token,
            expires_at=datetime.fromtimestamp(unverified(token)["exp"], UTC),
            session_id=session_id,
            supabase_url=self._settings.supabase_url,
            publishable_key=self._settings.supabase_publishable_key,
        )

    def verify(self, token: str) -> Caller:
        """Who watches: the session's owner, as far as RLS lets this token see. Raises NotAuthenticated."""
        try:
            claims = self._signer.claims(token, WATCHER, ("sub", "session_id"))
            return Caller(UUID(claims["sub"]), token, frozenset(("read",)))
        except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            raise NotAuthenticated("the watch token is not valid") from error


def is_watch_token(credential: str) -> bool:
    """Whether somebody shows a watch token, good or not."""
    return unverified(credential).get("aud") == WATCHER


def unverified(token: str) -> dict[str, Any]:
    """What a token says of itself; nothing for what is none."""
    try:
        return jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return {}
