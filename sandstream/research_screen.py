"""A question on a terminal: the plan, its steps as they run side by side, the answer and what it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from sandstream import answer
from sandstream.events import Event
from sandstream.prose import Prose
from sandstream.render import completed, printable
from sandstream.research import Plan, PlanStep, ResearchTask, Results
from sandstream.screen import MAX_SUBJECT, MAX_WIDTH
from sandstream.turn import Turn, error_words, words_of
from sandstream.usage import dollars

# Of each step's output so many lines are shown; the log has all of it.
OUTPUT_LINES = 4
INDENT = 6


class ResearchScreen:
    """Prints events in the order in which they are shown to it. Steps that run at once share the screen: each line
    says whose it is."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._width = max(20, min(console.width, MAX_WIDTH))
        self._turn = Turn()
        # The steps of the plans that stand, by index; a plan that was refused gives its numbers back.
        self._steps: dict[int, PlanStep] = {}
        self._newest: tuple[PlanStep, ...] = ()
        self._succeeded: set[int] = set()
        self._lines: Counter[int] = Counter()
        # What a step has printed of a line that is not whole yet, by step and stream.
        self._open: dict[tuple[int, str], str] = {}
        self._error = ""
        self._answered = False
        self._shown: dict[str, Callable[[Event], None]] = {
            "span.model_request_start": self._asks,
            "plan.created": self._plan,
            "plan.revised": self._plan,
            "plan.rejected": self._rejected,
            "command.started": self._started,
            "command.output": self._output,
            "command.retrying": self._retrying,
            "command.completed": self._completed,
            "research.answer": self._answer,
            "budget.reached": self._budget,
            "session.error": self._failed,
            **dict.fromkeys(("run.failed", "run.timed_out", "run.lost"), self._failed),
            "run.cancelled": lambda _: self.note("cancelled", "bold yellow"),
        }

    def accepted(self, task: ResearchTask) -> None:
        """What was asked has its name, and what it may take."""
        self.note(f"task {task.task_id}\nsession {task.session_id}")
        expected = answer.expected(task)
        if expected:
            self.note(f"estimated: {expected}")

    def show(self, event: Event) -> None:
        """The next one."""
        self._turn.add(event)
        shown = self._shown.get(event.type)
        if shown:
            shown(event)

    def results(self, results: Results) -> None:
        """An answer, whole: shown once, wherever it comes from."""
        if self._answered:
            return
        self._answered = True
        self._console.print()
        prose = Prose(self._print, self._width)
        prose.add(results.answer.rstrip("\n"))
        prose.end()
        self._block([self._wrapped(line, 2, 4) for line in answer.facts(results)], "bold")
        # Addresses are not folded: who copies one wants it whole.
        self._block(["  " + line for line in answer.citations(results, self._descriptions())], "dim")
        if not results.is_complete:
            self._block(["  something is missing, so this answer is not remembered"], "yellow")

    def remembered(self, task: ResearchTask) -> None:
        """An answer that was there already, and where it comes from."""
        if task.results is not None:
            self.results(task.results)
        self.note("\n" + answer.memory(task))

    def ended(self, task: ResearchTask) -> None:
        """What the log may not have told, and the last lines: how it ended, what it cost and used."""
        if task.results is not None:
            self.results(task.results)
        if task.error and not self._error:
            self._say_error(words_of(task.error))
        cost = "" if task.cost_microusd is None else dollars(task.cost_microusd)
        parts = [task.status, self._steps_done(), self._lasted(), cost]
        self.note("\n" + self._wrapped(" · ".join(part for part in parts if part)))
        if self._turn.requests:
            self.note(self._wrapped(self._used()))

    def note(self, words: str, style: str = "dim") -> None:
        """Lines of their own."""
        self._console.print(Text(words, style=style), soft_wrap=True)

    def _steps_done(self) -> str:
        return f"{len(self._succeeded)} of {len(self._steps)} steps" if self._steps else ""

    def _lasted(self) -> str:
        return f"{self._turn.seconds:.1f} s" if self._turn.seconds else ""

    def _used(self) -> str:
        turn = self._turn
        requests = f"{turn.requests} model request{'' if turn.requests == 1 else 's'}"
        return f"{requests} · {turn.tokens_in:,} tokens in, {turn.tokens_out:,} out"

    def _asks(self, event: Event) -> None:
        self.note(printable(f"asking {event.data.get('model') or 'the model'}"))

    def _plan(self, event: Event) -> None:
        plan = Plan.model_validate(event.data)
        self._newest = plan.steps
        self._steps.update({step.index: step for step in plan.steps})
        self.note("\n" + self._wrapped(answer.heading(plan)), "bold")
        for step in plan.steps:
            self._planned(step)
        self._console.print()

    def _planned(self, step: PlanStep) -> None:
        after = f" (after {', '.join(map(str, step.needs))})" if step.needs else ""
        self.note(self._wrapped(f"{_mark(step.index)}{step.description or 'no description'}{after}", 2, INDENT), "cyan")
        command = step.command if len(step.command) <= MAX_SUBJECT else step.command[: MAX_SUBJECT - 1] + "…"
        self.note(self._wrapped("$ " + " ⏎ ".join(command.strip().splitlines()), INDENT, INDENT + 2))

    def _rejected(self, event: Event) -> None:
        for step in self._newest:
            self._steps.pop(step.index, None)
        self.note(self._wrapped("the plan was refused before anything of it ran"), "bold yellow")
        for reason in event.data.get("reasons") or []:
            whose = "" if reason.get("index") is None else _mark(reason["index"])
            words = f"{whose}{reason.get('rule', '')}: {reason.get('text', '')}"
            self.note(self._wrapped(words, 2, INDENT), "yellow")

    def _started(self, event: Event) -> None:
        attempt = event.data.get("attempt", 1)
        self._step_line(event, "started" if attempt == 1 else f"started again, attempt {attempt}", "cyan")

    def _output(self, event: Event) -> None:
        index, stream = _index(event), str(event.data.get("stream", ""))
        *whole, rest = (self._open.pop((index, stream), "") + str(event.data.get("text", ""))).split("\n")
        self._open[index, stream] = rest
        for line in whole:
            self._output_line(event, stream, line)

    def _output_line(self, event: Event, stream: str, line: str) -> None:
        if not line.strip():
            return
        self._lines[_index(event)] += 1
        if self._lines[_index(event)] <= OUTPUT_LINES:
            self._step_line(event, "  " + ("stderr: " if stream == "stderr" else "") + line, "dim")

    def _rest_of_output(self, event: Event) -> None:
        """The lines that no newline ended, and how many were not shown."""
        index = _index(event)
        for stream in ("stdout", "stderr"):
            self._output_line(event, stream, self._open.pop((index, stream), ""))
        more = self._lines.pop(index, 0) - OUTPUT_LINES
        if more > 0:
            self._step_line(event, f"  … {more} more line{'' if more == 1 else 's'}", "dim")

    def _retrying(self, event: Event) -> None:
        self._rest_of_output(event)
        wait = event.data.get("delay_ms", 0) / 1000
        self._step_line(event, f"failed: exit {event.data.get('exit_code')}; again in {wait:g} s", "yellow")

    def _completed(self, event: Event) -> None:
        self._rest_of_output(event)
        cut_short = event.data.get("cancelled") or event.data.get("budget_reached")
        failed = bool(event.data.get("timed_out") or event.data.get("exit_code") or cut_short)
        if not failed:
            self._succeeded.add(_index(event))
        mark = "stopped: " if cut_short else "failed: " if failed else "done: "
        self._step_line(event, mark + completed(event.data), "red" if failed else "green")

    def _answer(self, event: Event) -> None:
        self.results(Results.model_validate(event.data))

    def _budget(self, event: Event) -> None:
        spent, limit = (dollars(int(event.data.get(f"{which}_microusd") or 0)) for which in ("spent", "limit"))
        scope = str(event.data.get("scope") or "run")
        self.note(self._wrapped(printable(f"the budget of the {scope} is reached: {spent} of {limit}")), "bold yellow")

    def _failed(self, event: Event) -> None:
        words = error_words(event) or event.type
        if (event.data.get("error") or {}).get("retry_status", {}).get("type") == "retrying":
            self.note(self._wrapped(words), "yellow")
        elif words != self._error:
            self._say_error(words)

    def _say_error(self, words: str) -> None:
        self._error = words
        self.note(self._wrapped("error: " + words, 0, 7), "bold red")

    def _step_line(self, event: Event, words: str, style: str) -> None:
        line = Text(printable(f"  {_mark(_index(event))}{words}"), style=style)
        line.truncate(self._width, overflow="ellipsis")
        self._console.print(line, soft_wrap=True)

    def _block(self, lines: list[str], style: str) -> None:
        """Lines with an empty one before them; nothing for none."""
        if lines:
            self.note("\n" + "\n".join(lines), style)

    def _descriptions(self) -> dict[int, str]:
        return {step.index: step.description or step.command for step in self._steps.values()}

    def _print(self, words: str) -> None:
        self._console.print(Text(words), end="", soft_wrap=True)

    def _wrapped(self, words: str, first: int = 0, after: int = 0) -> str:
        """On as many lines as it takes; `first` and `after` are the spaces before the first and before the others."""
        lines = Text(printable(words)).wrap(self._console, self._width - max(first, after))
        return "\n".join(" " * (after if number else first) + line.plain.rstrip() for number, line in enumerate(lines))


def _index(event: Event) -> int:
    return int(event.data.get("index", 0))


def _mark(index: int) -> str:
    """Which step; the same mark as in an answer's citations."""
    return f"[{index}] "
