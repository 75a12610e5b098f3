"""A conversation on a terminal: what is said as it is said, each tool call and its result in a line."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from sandstream import tools
from sandstream.conversation import text
from sandstream.events import Event, Preview
from sandstream.prose import Prose
from sandstream.render import printable
from sandstream.turn import ASKS, error_words

# Longer lines are hard to read, however wide the terminal is.
MAX_WIDTH = 96
# Where a tool's subject begins: two spaces and its name stand before it.
INDENT = 9
# A command or a pattern may take a few lines; a program that Claude pipes into a shell may not.
MAX_SUBJECT = 240
RESULTS = ("agent.tool_result", "agent.mcp_tool_result")


class Screen:
    """Prints events and previews in the order in which they are shown to it. Nothing is printed twice."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._width = max(20, min(console.width, MAX_WIDTH))
        # What was printed of each message that is still being written, by its id.
        self._written: dict[str, str] = {}
        self._ended: set[str] = set()
        self._open: tuple[str, Prose] | None = None
        # Calls that have no result yet, and those that ran side by side with others.
        self._uses: dict[str, Event] = {}
        self._together: set[str] = set()
        # Previews travel faster than events: what is said about a result waits for it.
        self._early: list[Preview] = []
        self._after_prose = False
        self._asking = False
        self._shown: dict[str, Callable[[Event], None]] = {
            **dict.fromkeys(ASKS, self._use),
            **dict.fromkeys(RESULTS, self._result),
            "agent.message": self._message,
            "user.message": self._user,
            "user.tool_confirmation": self._confirmation,
            "user.custom_tool_result": self._custom_result,
            "session.error": self._error,
        }

    def show(self, item: Event | Preview) -> None:
        """The next one."""
        if isinstance(item, Preview):
            self._preview(item)
            return
        shown = self._shown.get(item.type)
        if shown:
            shown(item)
        elif item.type in _NOTES:
            self.note("  " + printable(_NOTES[item.type](item)))

    def said(self, words: str) -> None:
        """What the user says."""
        self.note("\n" + self._wrapped("> " + printable(words), 2), "bold")

    def note(self, words: str, style: str = "dim") -> None:
        """A line on its own. What Claude was saying is ended first."""
        self._close()
        self._console.print(Text(words, style=style), soft_wrap=True)
        self._after_prose = False

    def question(self, words: str) -> None:
        """Something that is answered on the same line."""
        self.note("")
        self._console.print(Text(printable(words), style="bold yellow"), end="", soft_wrap=True)
        self._asking = True

    def answered(self) -> None:
        """The question's line was ended by who typed the answer."""
        self._asking = False

    def _preview(self, preview: Preview) -> None:
        if self._uses:
            self._early.append(preview)
        elif preview.text and preview.event_id not in self._ended:
            self._write(preview.event_id, preview.text)

    def _message(self, event: Event) -> None:
        """The whole message: what the previews did not bring of it, or all of it where they were not its beginning."""
        self._early = [preview for preview in self._early if preview.event_id != event.id]
        # A sub-agent speaks to the one that called it, not to the user.
        if event.id in self._ended or event.data.get("parent_tool_use_id"):
            return
        whole, written = text(event.data.get("content")), self._written.pop(event.id, "")
        if not whole.startswith(written):
            self._close()
            written = ""
        if len(whole) > len(written):
            self._write(event.id, whole[len(written) :])
        self._written.pop(event.id, None)
        self._ended.add(event.id)
        self._close()

    def _write(self, id: str, piece: str) -> None:
        if self._open is None or self._open[0] != id:
            self._close()
            self._console.print()
            self._open = (id, Prose(self._print, self._width))
        self._written[id] = self._written.get(id, "") + piece
        self._open[1].add(piece)

    def _print(self, words: str) -> None:
        self._console.print(Text(words), end="", soft_wrap=True)

    def _close(self) -> None:
        if self._asking:
            self._console.print()
            self._asking = False
        if self._open is not None:
            self._open[1].end()
            self._open = None
            self._after_prose = True

    def _use(self, event: Event) -> None:
        self._close()
        if self._after_prose:
            self._console.print()
        self._uses[event.id] = event
        if len(self._uses) > 1:
            self._together.update(self._uses)
        self._tool_line(event, "", "cyan")

    def _result(self, event: Event) -> None:
        id = str(event.data.get("tool_use_id") or event.data.get("mcp_tool_use_id") or "")
        use = self._uses.pop(id, None)
        failed = bool(event.data.get("is_error"))
        words = tools.outcome(event, use)
        whose = f"{tools.label(use)}: " if use is not None and id in self._together else ""
        line = f"{' ' * INDENT}{'failed: ' if failed else ''}{whose}{words}"
        self.note(_cut(line, self._width), "red" if failed else "dim")
        self._go_on()

    def _custom_result(self, event: Event) -> None:
        self._uses.pop(str(event.data.get("custom_tool_use_id")), None)
        self._go_on()

    def _go_on(self) -> None:
        """With every result there, what was said about them may be shown."""
        if not self._uses:
            early, self._early = self._early, []
            for preview in early:
                self._preview(preview)

    def _tool_line(self, use: Event, mark: str, style: str) -> None:
        head = f"  {tools.name(use):<{INDENT - 3}} "
        words = self._wrapped(head + mark + _cut(tools.subject(use), MAX_SUBJECT), INDENT)
        self.note(words, style)

    def _wrapped(self, words: str, indent: int) -> str:
        """On as many lines as it takes, those after the first indented."""
        return "\n".join(
            textwrap.wrap(
                words, self._width, subsequent_indent=" " * indent, drop_whitespace=True, break_on_hyphens=False
            )
        )

    def _user(self, event: Event) -> None:
        # Calls of an earlier turn that have no result get none.
        self._uses.clear()
        self.said(text(event.data.get("content")) or "(an attachment)")

    def _confirmation(self, event: Event) -> None:
        allowed = event.data.get("result") == "allow"
        reason = printable(str(event.data.get("deny_message") or ""))
        words = "allowed" if allowed else "denied" + (f": {reason}" if reason else "")
        self.note(" " * INDENT + words, "dim")

    def _error(self, event: Event) -> None:
        self._close()
        if self._after_prose:
            self._console.print()
        again = (event.data.get("error") or {}).get("retry_status", {}).get("type") == "retrying"
        words = ("" if again else "error: ") + printable(error_words(event))
        self.note(self._wrapped(words, 7), "yellow" if again else "bold red")


def _cut(words: str, width: int) -> str:
    return words if len(words) <= width else words[: width - 1] + "…"


def _restored(event: Event) -> str:
    return f"new sandbox; {event.data.get('files', 0)} files restored"


_NOTES: dict[str, Callable[[Event], str]] = {
    "user.interrupt": lambda _: "interrupted",
    "agent.thread_context_compacted": lambda _: "the conversation was summarised to make room",
    "sandbox.files_restored": _restored,
    "sandbox.files_lost": lambda event: f"new sandbox; files are lost: {event.data.get('reason', '')}",
    "sandbox.files_not_saved": lambda event: f"the files were not saved: {event.data.get('reason', '')}",
    "sandbox.repository_cloned": lambda event: f"cloned {event.data.get('url', '')}",
    "session.status_terminated": lambda _: "the session has ended",
}
