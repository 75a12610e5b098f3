"""Starts a local stack, measures, prints one table. `python -m bench [submit|events|…]`: all of MEASURES, or some."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

from rich.console import Console
from rich.table import Table

from bench import admission, conversation, events, live, replay, submit
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
}


async def measured(names: list[str]) -> Table:
    """The chosen measurements, one after the other."""
    table = Table("what", "measured", box=None, padding=(0, 2))
    with running({}) as stack:
        async with opened(stack) as bench:
            for name in names:
                for what, figure in await MEASURES[name](bench):
                    table.add_row(what, figure)
    return table


def main() -> None:
    """All measurements, or those that are named."""
    names = sys.argv[1:] or list(MEASURES)
    Console(width=140).print(asyncio.run(measured(names)))


if __name__ == "__main__":
    main()
