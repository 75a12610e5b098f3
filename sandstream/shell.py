"""What the commands share: where they print, how they reach a deployment, how they end."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from decimal import Decimal, InvalidOperation
from types import FrameType
from typing import Annotated, Any, NoReturn
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sandstream.client import Sandstream
from sandstream.errors import SandstreamError

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)

Url = Annotated[str, typer.Option(envvar="SANDSTREAM_URL", help="Base URL of the endpoints.")]
Key = Annotated[
    str, typer.Option(envvar="SANDSTREAM_KEY", help="An API key, or the access token of a signed-in Supabase user.")
]
JsonLines = Annotated[bool, typer.Option("--json", help="Print events as JSON, one a line.")]

# What a run's end means for the shell. 130 is what a shell says of a program that was interrupted.
EXIT_CODES = {"succeeded": 0, "failed": 1, "timed_out": 1, "lost": 1, "cancelled": 130}
# Whether a plan's or a turn's.
BUDGET_REACHED = 4
# Wide enough for an id and a time, also where the terminal is narrower or there is none.
LISTING_WIDTH = 120


def listing(*headings: str) -> Table:
    """A table without lines; nothing in it is folded."""
    table = Table(box=None, padding=(0, 2))
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


def show_listing(table: Table) -> None:
    """Prints it whole."""
    Console(width=max(out.width, LISTING_WIDTH), highlight=False).print(table)


def moment(at: datetime | None) -> str:
    """A time as the clock on the wall has it; nothing for none."""
    return at.astimezone().isoformat(sep=" ", timespec="seconds") if at else ""


async def with_client(url: str, key: str, use: Callable[[Sandstream], Awaitable[Any]]) -> Any:
    """What `use` answers, given a client."""
    async with Sandstream(url, key) as client:
        return await use(client)


def finish(url: str, key: str, use: Callable[[Sandstream], Coroutine[Any, Any, int]]) -> NoReturn:
    """Runs it, and ends the program with the code that it answers."""
    with stopping(), failing_cleanly():
        code = asyncio.run(with_client(url, key, use))
    raise typer.Exit(code)


@asynccontextmanager
async def cancelling(client: Sandstream, run_id: UUID) -> AsyncIterator[None]:
    """Ctrl-C while inside asks the run to stop."""
    try:
        yield
    except asyncio.CancelledError:
        # It cancels the task that asyncio.run() drives.
        await client.cancel(run_id)
        err.print(Text(f"asked run {run_id} to stop"))
        raise


@contextmanager
def failing_cleanly() -> Iterator[None]:
    """Says what went wrong in one line, and exits with 1; Ctrl-C exits with 130."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except (SandstreamError, TimeoutError) as error:
        fail(str(error) or "it took too long")


@contextmanager
def stopping() -> Iterator[None]:
    """SIGTERM and SIGHUP end the program as Ctrl-C does: with its clean-up."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """What Ctrl-C does."""
    raise KeyboardInterrupt


def fail(message: str) -> NoReturn:
    """One line on stderr, exit code 1."""
    err.print(Text(message, style="red"))
    raise typer.Exit(1)


def cents(dollars: str) -> int:
    """Dollars as the endpoints take them. Ends the program for less than a cent, and for parts of one."""
    try:
        amount = Decimal(dollars.removeprefix("$")) * 100
    except InvalidOperation:
        amount = Decimal(0)
    if not amount.is_finite() or amount < 1 or amount % 1:
        fail(f"a budget is US dollars in whole cents, such as 0.50, not {dollars}")
    return int(amount)


def emit(shown: str | Text) -> None:
    """JSON goes out as it is; everything else through rich, whole: no line of it is cut or folded."""
    if isinstance(shown, str):
        sys.stdout.write(shown + "\n")
        sys.stdout.flush()
    else:
        out.print(shown)
