"""`sandstream`: talk to Claude, ask, submit, watch and cancel from a terminal; the local stack and the demo.

Against a deployment: SANDSTREAM_URL and SANDSTREAM_KEY (an API key, or a user's access token).
"""

import asyncio
import json
import os
import shlex
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.table import Table
from rich.text import Text

from sandstream import cli_ask, cli_keys, cli_usage
from sandstream import demo as demonstration
from sandstream.chat import Chat, WaitsForUserError
from sandstream.client import Sandstream
from sandstream.errors import SandstreamError
from sandstream.keyboard import keyboard
from sandstream.render import lines
from sandstream.shell import (
    BUDGET_REACHED,
    EXIT_CODES,
    JsonLines,
    Key,
    Url,
    cancelling,
    cents,
    emit,
    err,
    fail,
    failing_cleanly,
    finish,
    listing,
    moment,
    out,
    show_listing,
    stopping,
    with_client,
)
from sandstream.up import LocalStack, local_stack
from sandstream.wire import Command, Run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(cli_keys.app, name="keys")
app.command(name="usage")(cli_usage.usage)
app.command(name="ask")(cli_ask.ask)

# What a plan may hold beside its commands: the arguments of `submit`.
PLAN_FIELDS = {"session_id", "title", "metadata", "egress", "timeout", "budget_cents"}
# Claude waits for an answer, and there is nobody here to ask.
WAITS_FOR_USER = 3


@app.command()
def up(json_line: Annotated[bool, typer.Option("--json", help="One JSON line, for scripts.")] = False) -> None:
    """Start the local stack, print its URLs and keys, and stay until Ctrl-C."""
    with stopping(), failing_cleanly(), local_stack() as stack:
        if json_line:
            sys.stdout.write(stack.model_dump_json() + "\n")
            sys.stdout.flush()
        else:
            out.print(addresses(stack))
            out.print(Text(f"\nexport SANDSTREAM_URL={stack.api_url}\nexport SANDSTREAM_KEY={stack.user_token}"))
            out.print(Text("\nThe token is good for an hour. Ctrl-C stops the stack.", style="dim"))
        while True:
            signal.pause()


@app.command()
def demo() -> None:
    """Show the main jobs on a local stack of its own: a plan, a conversation, questions; every event checked."""
    with stopping(), failing_cleanly(), local_stack() as stack:
        out.print(Text("\n".join([f"local stack at {stack.api_url}", *models()]), style="dim"))
        held = asyncio.run(with_client(stack.api_url, stack.user_token, lambda client: demonstration.run(out, client)))
    raise typer.Exit(0 if held else 1)


@app.command()
def doctor(
    settings: Annotated[Path | None, typer.Argument(help="A file of settings; without it, the environment's.")] = None,
) -> None:
    """Look a deployment over: every credential, the template, row security, and one tiny run; say what is wrong."""
    if find_spec("functions") is None:
        fail("the doctor is part of the repository; this installation is the client alone")
    # In our place: its exit code and its end by a signal are this command's.
    os.execv(sys.executable, [sys.executable, "-m", "functions.doctor", *([str(settings)] if settings else [])])  # noqa: S606


@app.command()
def chat(
    url: Url,
    key: Key,
    message: Annotated[str | None, typer.Argument(help="What to say; without it, line by line.")] = None,
    session: Annotated[UUID | None, typer.Option(help="Go on with this session.")] = None,
    agent: Annotated[str, typer.Option(help="An agent's id, for a new session.")] = "default",
    json_lines: JsonLines = False,
) -> None:
    """Say something to Claude and watch the answer; the exit code says how the turn ended.

    Ctrl-C interrupts the turn, and once more leaves. 0: it ended. 1: it failed. 3: it waits for an answer that cannot
    be given here. 4: the budget is spent. 130: interrupted.
    """
    typing = keyboard()
    if message is None and session is None and typing is None:
        fail("give a message, or a session with --session")

    async def converse(client: Sandstream) -> int:
        try:
            talk = Chat(client, out, keyboard=typing, json_lines=json_lines)
            return await talk.run(message, session, agent)
        except WaitsForUserError as error:
            err.print(Text(str(error), style="yellow"), soft_wrap=True)
            return WAITS_FOR_USER

    finish(url, key, converse)


@app.command(name="run")
def run_(
    url: Url,
    key: Key,
    command: Annotated[list[str] | None, typer.Argument(help="A command, after `--`.")] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help='A plan: {"commands": [{"command": …}]}.')] = None,
    budget: Annotated[str | None, typer.Option(help="US dollars that it may cost, such as 0.50.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the ids and do not watch.")] = False,
    json_lines: JsonLines = False,
) -> None:
    """Submit a command or a plan and watch it; the exit code says how it ended.

    0: it succeeded. 1: it failed. 4: the budget is spent. 130: cancelled.
    """
    plan = read_plan(command or [], file)
    if budget is not None:
        plan["budget_cents"] = cents(budget)

    async def submit(client: Sandstream) -> int:
        accepted = await client.submit(**plan)
        if detach:
            out.print_json(data={"run_id": str(accepted.id), "session_id": str(accepted.session_id)})
            return 0
        await show(client, accepted, json_lines)
        return exit_code(await client.run(accepted.id))

    finish(url, key, submit)


@app.command()
def watch(
    url: Url,
    key: Key,
    session: Annotated[UUID, typer.Argument(help="A session's id.")],
    after: Annotated[int, typer.Option(help="Start after this seq.")] = 0,
    json_lines: JsonLines = False,
) -> None:
    """Watch a session's events, each once, in order, until it is at rest."""

    async def follow(client: Sandstream) -> int:
        begun = None
        async for event in client.watch(session, after=after):
            begun = begun or event.created_at
            emit(event.model_dump_json() if json_lines else lines(event, begun))
        return 0

    finish(url, key, follow)


@app.command()
def cancel(url: Url, key: Key, run: Annotated[UUID, typer.Argument(help="A run's id.")]) -> None:
    """Ask a live run to stop."""

    async def ask(client: Sandstream) -> int:
        asked = await client.cancel(run)
        out.print(Text(f"asked run {asked.id} to stop; it is {asked.status}"))
        return 0

    finish(url, key, ask)


@app.command()
def sessions(url: Url, key: Key, limit: Annotated[int, typer.Option(min=1, max=1000)] = 20) -> None:
    """List sessions, newest first."""

    async def list_sessions(client: Sandstream) -> int:
        table = listing("session", "status", "events", "created", "title")
        for found in (await client.sessions(limit=limit)).data:
            created = moment(found.created_at)
            table.add_row(str(found.id), found.status, str(found.last_seq), created, Text(found.title or ""))
        show_listing(table)
        return 0

    finish(url, key, list_sessions)


def exit_code(run: Run) -> int:
    """What the shell is told of a run that has ended."""
    reason = (run.result or {}).get("stop_reason") or run.error or {}
    return BUDGET_REACHED if reason.get("type") == "budget_reached" else EXIT_CODES.get(run.status, 1)


def read_plan(command: list[str], file: Path | None) -> dict[str, Any]:
    """The arguments of `submit`: from the words after `--`, or from a file. Ends the program when there is neither."""
    if bool(command) == (file is not None):
        fail("give a command after `--`, or a plan with -f")
    if file is None:
        return {"commands": [Command(command=command[0] if len(command) == 1 else shlex.join(command))]}
    try:
        return parse_plan(file)
    except SandstreamError as error:
        fail(str(error))


def parse_plan(file: Path) -> dict[str, Any]:
    """A plan file as `submit` takes it. Raises SandstreamError for what is no plan."""
    try:
        plan = json.loads(file.read_text(encoding="utf-8"))
        listed = plan.pop("commands")
        commands = [command if isinstance(command, str) else Command.model_validate(command) for command in listed]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SandstreamError(f"{file} is not a plan: {error}") from error
    if unknown := plan.keys() - PLAN_FIELDS:
        raise SandstreamError(f"{file} is not a plan: a plan has no {', '.join(sorted(unknown))}")
    return {"commands": commands, **plan}


async def show(client: Sandstream, accepted: Run, json_lines: bool) -> None:
    """Prints a run's session as it happens. Ctrl-C asks the run to stop."""
    if not json_lines:
        out.print(Text(f"run {accepted.id}  session {accepted.session_id}", style="dim"))
    async with cancelling(client, accepted.id):
        async for event in client.watch(accepted.session_id):
            if event.run_id in (None, accepted.id):
                emit(event.model_dump_json() if json_lines else lines(event, accepted.created_at))


def models() -> list[str]:
    """Which models the local stack has, and what would make them real."""
    asked = (("Claude", "ANTHROPIC_API_KEY"), ("who plans research", "OPENAI_API_KEY"))
    return [
        f"{who} is the real one" if os.environ.get(variable) else f"{who} is scripted; with {variable}, the real one"
        for who, variable in asked
    ]


def addresses(stack: LocalStack) -> Table:
    """Every URL and key, with the name that scripts know it by."""
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, value in stack.model_dump(exclude={"user_token"}).items():
        table.add_row(name, Text(value or "(none yet)", overflow="fold"))
    return table
