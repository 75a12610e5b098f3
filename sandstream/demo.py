"""The main jobs, shown: a plan of commands, a conversation with Claude and its follow-up, questions; all checked."""

from __future__ import annotations

import asyncio

from rich.console import Console
from rich.text import Text

from sandstream import demo_ask, demo_plan, demo_talk
from sandstream.check import table
from sandstream.client import Sandstream

# Scripted, it takes seconds; a real model takes its time.
DEADLINE_SECONDS = 300


async def run(console: Console, client: Sandstream) -> bool:
    """All acts and their checks; True when everything held. Raises SandstreamError, TimeoutError."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        heading(console, "A plan of commands, watched as it runs")
        observed, final = await demo_plan.perform(console, client)
        heading(console, "A conversation: Claude at work, live")
        talk = await demo_talk.perform(console, client)
        heading(console, "What the follow-up changed")
        demo_talk.show_changes(console, talk)
        heading(console, "Questions: one to find out, one to remember, one that only looks alike")
        asked = await demo_ask.perform(console, client)
    heading(console, "What held")
    checks = [*demo_plan.judge(final.status, observed), *demo_talk.judge(talk), *demo_ask.judge(asked)]
    console.print(table(checks, demo_plan.measures(observed)), soft_wrap=False)
    failed = [check.promise for check in checks if not check.holds]
    if failed:
        console.print(Text(f"\nnot everything held: {'; '.join(failed)}", style="bold red"))
    return not failed


def heading(console: Console, words: str) -> None:
    """The beginning of a part."""
    console.print(Text(f"\n{words}\n", style="bold"), soft_wrap=False)
