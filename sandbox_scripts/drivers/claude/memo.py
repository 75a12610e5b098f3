"""The few facts a restarted driver needs that neither the spool nor the CLI's output holds."""

from __future__ import annotations

import json
import os

from ...clock import boottime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Memo:
    """Kept in one small file, replaced whole with each change. Times are seconds of boottime()."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.launch = 1
        self.interrupt_seq = 0
        # The message that the turn answers, and whether files were lost that must not be replaced by what is there now.
        self.turn_seq = 0
        self.spares_files = False
        self.skipped: list[int] = []
        self.turns = 0
        self.cost_microusd = 0
        self.asked: dict[str, float] = {}
        self.began = 0.0
        self.paused = 0.0
        self.paused_since: float | None = None
        self.prepared = False
        # Messages that only a lost run was told, for the first prompt.
        self.recalled: list[dict[str, Any]] = []
        # What the log said of the budget for which this start of the CLI is being ended.
        self.budget: dict[str, Any] | None = None
        # The CLI's stdin is closed: nothing can be said to it any more.
        self.closing = False
        # Why it is: status, how, stop_reason, error; see conversation.End.
        self.ending: list[Any] | None = None
        # How the last start of the CLI ended: status, result, error. `hopeless`: it came to nothing, another would too.
        self.last: list[Any] | None = None
        self.hopeless = False
        try:
            with open(path, encoding="utf-8") as file:
                self.__dict__.update(json.load(file))
        except FileNotFoundError:
            pass

    def save(self) -> None:
        """Raise OSError."""
        facts: dict[str, Any] = {name: value for name, value in self.__dict__.items() if name[0] != "_"}
        with open(self._path + ".new", "w", encoding="utf-8") as file:
            json.dump(facts, file)
        os.replace(self._path + ".new", self._path)

    def begin_turn(self, seq: int = 0) -> None:
        """The prompt of that seq is sent: its clock starts."""
        self.turn_seq = seq
        self.began, self.paused, self.paused_since = boottime(), 0.0, None
        self.save()

    def pause(self, waiting: bool) -> None:
        """The clock stands while a person's answer is waited for."""
        if waiting == (self.paused_since is not None):
            return
        if self.paused_since is None:
            self.paused_since = boottime()
        else:
            self.paused += boottime() - self.paused_since
            self.paused_since = None
        self.save()

    def worked(self) -> float:
        """How long the turn has worked, without the waiting."""
        until = boottime() if self.paused_since is None else self.paused_since
        return until - self.began - self.paused

    def close_input(self, ending: list[Any]) -> None:
        """The CLI is asked to end, for this reason."""
        self.closing, self.ending = True, ending
        self.save()

    def end_launch(self, last: list[Any], cost_microusd: int, turns: int, hopeless: bool) -> None:
        """The CLI has ended; the next start is another one. All in one write, so that nothing is counted twice."""
        self.launch += 1
        self.hopeless = hopeless
        self.cost_microusd, self.turns = cost_microusd, turns
        self.closing, self.ending, self.last, self.budget = False, None, last, None
        self.save()
