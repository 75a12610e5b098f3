"""Every line that the CLI writes, on its way: into the log as events, and live as previews."""

from __future__ import annotations

import functools
import os
import time

from ...redact import Redactor, redact_text
from .agent import CUSTOM
from .events import Fold
from .lines import Line
from .previews import Previews

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .desk import Desk, Launch
    from .lines import Unparsed
    from .live import Live

STDERR_BYTES = 1000


class Tap:
    """What is known from the lines so far.

    `failure` is what went wrong while one was taken: the SDK, in whose reader that happens, would only log it.
    """

    def __init__(self, desk: Desk, launch: Launch, live: Live, heard: Callable[[Line | Unparsed], None]) -> None:
        number, forms = desk.memo.launch, desk.forms
        prefix = desk.job.run_id[:8] + (f"_{number}" if number > 1 else "")
        self.redact: Callable[[str], str] = functools.partial(redact_text, forms=forms)
        self.fold = Fold(prefix, self.redact, desk.agent.permission)
        self.failure: BaseException | None = None
        self._agent, self._record, self._live, self._heard = desk.agent, desk.record, live, heard
        self._previews = Previews(lambda: Redactor(forms), time.monotonic)
        self._stderr = launch.process.path("stderr")
        self._replay_until = _size(launch.process.path("stdout")) if launch.attaches else 0

    def take(self, line: Line | Unparsed) -> None:
        """Take in a line. Raise what it keeps as `failure`."""
        try:
            self._heard(line)
            for kind, data in self.fold.take(line):
                self._record.add(kind, data)
            if isinstance(line, Line) and line.offset >= self._replay_until:
                self._previews.take(line.value)
        except BaseException as error:
            self.failure = error
            raise

    def replayed(self, offset: int) -> bool:
        """Whether all that a runner before this one has seen was read again; `offset` is how far was read."""
        return offset >= self._replay_until

    def show(self) -> None:
        """Send what is due of the live text. Raise `failure`."""
        if self.failure is not None:
            raise self.failure
        previews = self._previews.due()
        if previews:
            self._live.show(previews)

    def close(self) -> None:
        """The output is over. Raise OSError."""
        for kind, data in self.fold.close():
            self._record.add(kind, data)

    def open_uses(self) -> list[str]:
        """The uses that a person has to say something to, and that have no result yet."""
        return [use for use, tool in self.fold.running_tools.items() if self._concerns_person(tool)]

    def complaint(self) -> str:
        """The end of the CLI's stderr."""
        try:
            with open(self._stderr, "rb") as file:
                file.seek(max(0, _size(self._stderr) - STDERR_BYTES))
                return self.redact(file.read().decode("utf-8", "replace").strip())
        except OSError:
            return ""

    def _concerns_person(self, tool: str) -> bool:
        return tool.startswith(f"mcp__{CUSTOM}__") or self._agent.permission(tool) == "ask"


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0
