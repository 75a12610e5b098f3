"""What the doctor's checks share: the deployment that is looked at, and how a check says what is wrong."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from e2b import AsyncSandbox

from functions.settings import Settings

Row = dict[str, Any]
MAX_QUOTED = 300


class Problem(Exception):
    """Something is wrong with the deployment; the message says what, and what to do."""


class NotNeeded(Exception):
    """This deployment does without what the check looks at; the message says why."""


@dataclass
class Case:
    """A deployment under examination: its settings, and what the checks so far have found or made."""

    settings: Settings
    http: httpx.AsyncClient
    facts: Row = field(default_factory=dict)
    sandbox: AsyncSandbox | None = None
    user_id: str | None = None
    user_token: str = ""
    run_sandbox_id: str | None = None

    @property
    def secret_key(self) -> str:
        """Supabase's secret key."""
        return self.settings.supabase_secret_key.get_secret_value()

    async def supabase(
        self, method: str, path: str, apikey: str, *, bearer: str | None = None, body: Row | None = None
    ) -> httpx.Response:
        """One request to the project, with this key, and as whom. Raises httpx.HTTPError."""
        headers = {"apikey": apikey, "Authorization": f"Bearer {bearer or apikey}"}
        return await self.http.request(method, f"{self.settings.supabase_url}{path}", headers=headers, json=body)


@dataclass(frozen=True)
class Check:
    """One line of the doctor's: a name, what does the looking, and the checks that it builds on.

    `look` answers with what it found in a few words. It raises Problem, or NotNeeded.
    """

    name: str
    look: Callable[[Case], Awaitable[str]]
    needs: tuple[str, ...] = ()


def said(answer: httpx.Response) -> str:
    """An answer in a few words: its status, and the message that it gives."""
    try:
        body = answer.json()
        message = next((body[name] for name in ("message", "msg", "error", "error_description") if name in body), body)
    except (ValueError, TypeError):
        message = answer.text
    return f"{answer.status_code}: {str(message)[:MAX_QUOTED]}"


def word(answer: httpx.Response) -> str | None:
    """The code of PostgREST's or Postgres' own in an answer: none when a gateway in front of them answered."""
    try:
        found = answer.json()["code"]
    except (ValueError, TypeError, KeyError):
        return None
    return str(found)
