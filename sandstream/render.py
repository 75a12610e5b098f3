"""Events as lines for people. Pure: an event in, a rich Text out, with nothing of its content taken for markup."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from rich.text import Text

from sandstream.events import Event

STYLES = {
    "command.output": "default",
    "command.started": "bold cyan",
    "command.completed": "cyan",
    "command.retrying": "yellow",
    "plan.created": "default",
    "plan.revised": "default",
    "plan.rejected": "yellow",
    "research.answer": "bold",
    "run.succeeded": "bold green",
    "run.failed": "bold red",
    "run.cancelled": "bold yellow",
    "run.timed_out": "bold red",
    "run.lost": "bold red",
    "session.error": "bold red",
}
MAX_LINE = 160
# Where the words begin: seq, seconds and type stand before them.
INDENT = 40


def line(event: Event, since: datetime) -> Text:
    """`seq  +seconds  type  what happened`, one line; long texts are cut, and say so."""
    words = printable(summary(event.type, event.data).rstrip("\n").replace("\n", " ⏎ "))
    more = len(words) - MAX_LINE
    return row(event, since, words if more <= 0 else f"{words[:MAX_LINE]} … (+{more})")


def lines(event: Event, since: datetime) -> Text:
    """The same with the text whole: a command's output has its own lines."""
    words = "\n".join(printable(part) for part in summary(event.type, event.data).rstrip("\n").split("\n"))
    return row(event, since, words.replace("\n", "\n" + " " * INDENT))


def row(event: Event, since: datetime, words: str) -> Text:
    """The columns before the words, and the words in the type's style."""
    seconds = (event.created_at - since).total_seconds()
    text = Text()
    text.append(f"{event.seq:>5} {seconds:>+8.2f}s  ", style="dim")
    text.append(f"{event.type:<22} {words}", style=STYLES.get(event.type, "dim"))
    return text


def summary(type: str, data: dict[str, Any]) -> str:
    """What an event says, in a few words; its data as it is for a type that is not known here."""
    known = SUMMARIES.get(type)
    return known(data) if known else compact(data)


def printable(words: str) -> str:
    """With no control character that a terminal would obey."""
    return "".join(letter if letter.isprintable() else "·" for letter in words.replace("\t", " "))


def compact(data: dict[str, Any]) -> str:
    """`key=value` for each."""
    return " ".join(f"{key}={value}" for key, value in data.items() if value is not None)


def started(data: dict[str, Any]) -> str:
    """The command, and which attempt it is."""
    again = f" (attempt {data['attempt']})" if data.get("attempt", 1) > 1 else ""
    return f"$ {data.get('command', '')}{again}"


def output(data: dict[str, Any]) -> str:
    """The text; what comes from stderr is marked."""
    mark = "stderr: " if data.get("stream") == "stderr" else ""
    return mark + str(data.get("text", ""))


def completed(data: dict[str, Any]) -> str:
    """How it ended, how long it took."""
    end = "timed out" if data.get("timed_out") else f"exit {data.get('exit_code')}"
    tries = f", {data['attempts']} attempts" if data.get("attempts", 1) > 1 else ""
    return f"{end} after {data.get('duration_ms', 0) / 1000:.2f}s{tries}"


def planned(data: dict[str, Any]) -> str:
    """What the steps of a plan are for, each with its number."""
    steps = data.get("steps") or []
    return "\n".join(f"[{step.get('index')}] {step.get('description') or step.get('command', '')}" for step in steps)


def refused(data: dict[str, Any]) -> str:
    """The rules that a plan broke, and where."""
    reasons = data.get("reasons") or []
    return "\n".join(f"{reason.get('rule', '')}: {reason.get('text', '')}" for reason in reasons)


def ended(data: dict[str, Any]) -> str:
    """The result, or the error."""
    return compact(data.get("error") or data.get("result") or {})


SUMMARIES: dict[str, Callable[[dict[str, Any]], str]] = {
    "command.started": started,
    "command.output": output,
    "command.completed": completed,
    "plan.created": planned,
    "plan.revised": planned,
    "plan.rejected": refused,
    "research.answer": lambda data: str(data.get("answer", "")),
    "run.created": lambda data: compact({"kind": data.get("kind"), "limit_seconds": data.get("limit_seconds")}),
    "run.succeeded": ended,
    "run.failed": ended,
    "run.cancelled": ended,
    "run.timed_out": ended,
    "run.lost": ended,
    "session.error": ended,
    "session.status_idle": lambda data: str((data.get("stop_reason") or {}).get("type", "")),
}
