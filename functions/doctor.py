"""Is the deployment well? `sandstream doctor [.env]` looks at every credential, and runs `true` through all.

One line for each check. Exit code 0: all well. 1: something is wrong, and its line says what. What the checks make, a
sandbox and a user, is gone afterwards. Without a file the settings are those of the environment.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from dotenv import dotenv_values

from functions import research_checks, run_checks, supabase_checks
from functions.case import Case, Check, NotNeeded, Problem
from functions.logs import SECRET, configure
from functions.settings import MissingSetting, Settings

CHECKS = (*supabase_checks.CHECKS, *research_checks.CHECKS, *run_checks.CHECKS)
# Longer than any check's own deadlines taken together.
CHECK_SECONDS = 240
NAME_WIDTH = max(len(check.name) for check in CHECKS)
# What a check that builds on another one may build on: also on one that this deployment does without.
GOOD = ("ok", "not used")
# What a shell says of a program that Ctrl-C ended.
INTERRUPTED = 130


@dataclass(frozen=True)
class Finding:
    """What a check came to: `ok`, `not used`, `WRONG` or `skipped`, and the words for it."""

    name: str
    verdict: str
    words: str

    def __str__(self) -> str:
        return f"{self.verdict:8}  {self.name:{NAME_WIDTH}}  {SECRET.sub('[redacted]', self.words)}"


async def examine(case: Case, checks: Sequence[Check] = CHECKS) -> AsyncIterator[Finding]:
    """A finding for each check, in their order. `tidy_up` undoes what they have made."""
    verdicts: dict[str, str] = {}
    for check in checks:
        finding = await look(check, case, verdicts)
        verdicts[check.name] = finding.verdict
        yield finding


async def look(check: Check, case: Case, verdicts: dict[str, str]) -> Finding:
    """One check, unless one that it needs has not come out well."""
    if missing := [name for name in check.needs if verdicts[name] not in GOOD]:
        return Finding(check.name, "skipped", f"needs: {', '.join(missing)}")
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return Finding(check.name, "ok", await check.look(case))
    except NotNeeded as reason:
        return Finding(check.name, "not used", str(reason))
    except Problem as problem:
        return Finding(check.name, "WRONG", str(problem))
    except httpx.HTTPError as error:
        return Finding(check.name, "WRONG", f"no answer: {type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 whatever an SDK raises, the checks that follow are worth making
        return Finding(check.name, "WRONG", f"{type(error).__name__}: {error}")


async def tidy_up(case: Case) -> str:
    """What the checks have made is undone."""
    await run_checks.leave(case)
    return "nothing is left"


async def report(settings: Settings) -> int:
    """Prints each finding as it comes; the exit code. Also when it is interrupted, nothing is left behind."""
    is_well = True
    async with httpx.AsyncClient(timeout=settings.supabase_request_timeout_seconds) as http:
        case = Case(settings, http)
        try:
            async for finding in examine(case):
                is_well = tell(finding) and is_well
        finally:
            is_well = tell(await look(Check("tidying up", tidy_up), case, {})) and is_well
    sys.stdout.write(
        "all is well\n" if is_well else "something is wrong: mend the first that is WRONG, and ask again\n"
    )
    return 0 if is_well else 1


def tell(finding: Finding) -> bool:
    """Prints it; whether it is good."""
    sys.stdout.write(f"{finding}\n")
    sys.stdout.flush()
    return finding.verdict in GOOD


def main(arguments: list[str]) -> int:
    """The exit code. Reads the file that is named over the environment."""
    if arguments:
        if not Path(arguments[0]).is_file():
            raise SystemExit(f"there is no file {arguments[0]}")
        os.environ.update({name: value for name, value in dotenv_values(arguments[0]).items() if value is not None})
    try:
        settings = Settings.read()
    except MissingSetting as missing:
        tell(Finding("settings", "WRONG", str(missing)))
        return 1
    configure("ERROR")
    tell(Finding("settings", "ok", "complete"))
    try:
        return asyncio.run(report(settings))
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    # Not by the interpreter's own end: in it, the threads of E2B's HTTP client may abort us (curioswitch/pyqwest 164).
    os._exit(code)
