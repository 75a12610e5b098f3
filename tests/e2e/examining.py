"""A deployment under the doctor's eyes: the stack's own, with some settings changed."""

from collections.abc import Sequence

import httpx

from functions import run_checks
from functions.case import Case, Check
from functions.doctor import CHECKS, Finding, examine
from functions.settings import Settings
from local.stack import Stack

Found = dict[str, Finding]


def settings(stack: Stack, **changes: str | None) -> Settings:
    """The deployment's settings, some of them changed; None is a setting that is not there."""
    given = {name.lower(): value for name, value in stack.api_environment().items()}
    known = {name: value for name, value in given.items() if name in Settings.model_fields}
    return Settings.model_validate({**known, **changes})


async def examined(stack: Stack, checks: Sequence[Check] = CHECKS, **changes: str | None) -> Found:
    """What each check came to; what they made is undone, as the command does."""
    async with httpx.AsyncClient(timeout=60) as http:
        case = Case(settings(stack, **changes), http)
        found = {finding.name: finding async for finding in examine(case, checks)}
        await run_checks.leave(case)
    return found


def wrong(found: Found) -> dict[str, str]:
    """The words of those that are wrong."""
    return {finding.name: finding.words for finding in found.values() if finding.verdict == "WRONG"}


async def users(service: httpx.AsyncClient) -> list[str]:
    """The addresses of the doctor's own users."""
    listed = await service.get(str(service.base_url).replace("/rest/v1/", "/auth/v1/admin/users?per_page=1000"))
    return [user["email"] for user in listed.json()["users"] if user["email"].startswith("doctor-")]
