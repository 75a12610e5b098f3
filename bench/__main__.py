"""Starts a local stack, measures, prints one table. `python -m bench [submit|events|cache|…]`: all, or some."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

from rich.console import Console
from rich.table import Table

from bench import admission, cache, conversation, events, live, replay, research, submit
from bench.people import Bench, opened
from local.stack import running

Measure = Callable[[Bench], Awaitable[list[tuple[str, str]]]]
MEASURES: dict[str, Measure] = {
    "submit": submit.measure,
    "live": live.measure,
    "events": events.measure,
    "replay": replay.measure,
    "conversation": conversation.measure,
    "admission": admission.measure,
    "research": research.measure,
}
# These need no stack.
ALONE: dict[str, Callable[[], list[tuple[str, str]]]] = {"cache": cache.measure}


async def measured(names: list[str]) -> Table:
    """The chosen measurements, one after the other."""
    table = Table("what", "measured", box=None, padding=(0, 2))
    rows = [row for name in names if name in ALONE for row in ALONE[name]()]
    if on_a_stack := [name for name in names if name not in ALONE]:
        with running({}) as stack:
            async with opened(stack) as bench:
                rows += [row for name in on_a_stack for row in await MEASURES[name](bench)]
    for row in rows:
        table.add_row(*row)
    return table


def main() -> None:
    """All measurements, or those that are named."""
    names = sys.argv[1:] or [*ALONE, *MEASURES]
    Console(width=140).print(asyncio.run(measured(names)))


if __name__ == "__main__":
    main()
