"""`sandstream usage`: what was spent, at a terminal."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

import typer
from rich.text import Text

from sandstream.client import Sandstream
from sandstream.shell import Key, Url, finish, listing, out, show_listing
from sandstream.usage import AccountUsage, MonthUsage, dollars

FORMATS = ["%Y-%m-%d"]


def usage(
    url: Url,
    key: Key,
    first: Annotated[datetime | None, typer.Option("--from", formats=FORMATS, help="The first day, of UTC.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=FORMATS, help="The last day.")] = None,
) -> None:
    """Show what each day cost, this month's unless others are named, and what is left of the month."""

    async def show(client: Sandstream) -> int:
        print_usage(await client.usage(first and first.date(), last and last.date()))
        return 0

    finish(url, key, show)


def print_usage(spent: AccountUsage) -> None:
    """The month in a line, the days in a table."""
    out.print(Text(month_line(spent.month)))
    table = listing("day", "kind", "model", "amount", "quantity")
    for each in spent.days:
        amount = dollars(each.amount_microusd)
        table.add_row(str(each.day), each.kind, Text(each.model or ""), amount, Text(quantity(each.quantity)))
    if spent.days:
        show_listing(table)
    else:
        out.print(Text(f"nothing from {spent.first} to {spent.last}"))
    out.print(Text(f"list prices of {spent.prices_as_of or 'no day yet'}", style="dim"))


def month_line(month: MonthUsage) -> str:
    """How the month stands."""
    reserved = f", {dollars(month.reserved_microusd)} reserved" if month.reserved_microusd else ""
    spent = f"{month.month}: {dollars(month.spent_microusd)} spent{reserved}"
    if month.limit_microusd is None or month.remainder_microusd is None:
        return f"{spent}; no limit"
    # What is left is rounded down, for the same reason.
    left = dollars(month.remainder_microusd // 100 * 100)
    return f"{spent}; {left} left of {dollars(month.limit_microusd)}"


def quantity(counts: Mapping[str, int]) -> str:
    """Seconds of a sandbox, or tokens of each kind that there were."""
    if "milliseconds" in counts:
        return f"{counts['milliseconds'] / 1000:,.1f} s"
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in sorted(counts.items()) if count)
