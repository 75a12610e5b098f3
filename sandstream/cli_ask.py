"""`sandstream ask`: a question at a terminal, answered by a plan that runs, or from memory."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sandstream.client import Sandstream
from sandstream.research import ResearchTask
from sandstream.research_screen import ResearchScreen
from sandstream.shell import (
    BUDGET_REACHED,
    EXIT_CODES,
    JsonLines,
    Key,
    Url,
    cancelling,
    cents,
    emit,
    finish,
    out,
)


def ask(
    url: Url,
    key: Key,
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    context: Annotated[
        list[str] | None, typer.Option(help="What is known already; may be given more than once.")
    ] = None,
    max_duration: Annotated[int | None, typer.Option(min=1, help="Seconds that it may take.")] = None,
    budget: Annotated[str | None, typer.Option(help="US dollars that it may cost, such as 0.50.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Find out anew.")] = False,
    max_age: Annotated[int | None, typer.Option(min=0, help="Seconds that a remembered answer may be old.")] = None,
    model: Annotated[str | None, typer.Option(help="Who plans and answers; the deployment's if not.")] = None,
    egress: Annotated[
        list[str] | None, typer.Option(help="A host that the steps may reach; may be given more than once.")
    ] = None,
    json_lines: JsonLines = False,
) -> None:
    """Ask something: a plan is made, checked and run, and the answer names its sources; or it is remembered.

    0: it was answered. 1: it failed. 4: the budget is spent. 130: cancelled.
    """
    asked: dict[str, Any] = {
        "context": context,
        "max_duration": max_duration,
        "budget_cents": None if budget is None else cents(budget),
        "use_cache": False if no_cache else None,
        "max_age": max_age,
        "model": model,
        "egress": egress or None,
    }

    async def find_out(client: Sandstream) -> int:
        task = await client.research.submit(question, **asked)
        return exit_code(await (print_events(client, task) if json_lines else show(client, task)))

    finish(url, key, find_out)


async def show(client: Sandstream, task: ResearchTask) -> ResearchTask:
    """Prints what becomes of the question as it happens, and its end. Ctrl-C asks the run to stop."""
    screen = ResearchScreen(out)
    screen.accepted(task)
    if task.from_cache:
        screen.remembered(task)
    elif task.run_id is not None:
        async with cancelling(client, task.run_id):
            async for event in client.watch(task.session_id):
                screen.show(event)
    ended = await client.research.get(task.task_id)
    screen.ended(ended)
    return ended


async def print_events(client: Sandstream, task: ResearchTask) -> ResearchTask:
    """The log of the question's session, one event a line, also of one that was answered from memory."""
    if task.run_id is None:
        async for event in client.watch(task.session_id):
            emit(event.model_dump_json())
        return task
    async with cancelling(client, task.run_id):
        async for event in client.watch(task.session_id):
            emit(event.model_dump_json())
    return await client.research.get(task.task_id)


def exit_code(task: ResearchTask) -> int:
    """What the shell is told of a question, in the words of runs."""
    if (task.error or {}).get("type") == "budget_reached":
        return BUDGET_REACHED
    return 0 if task.status == "completed" else EXIT_CODES.get(task.status, 1)
