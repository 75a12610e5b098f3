"""What the steps brought: what an answer is made from, and held against."""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..steps import Result

# Of all output together, what a prompt holds.
MOST_CHARACTERS = 160_000
_NONCE_BYTES = 8
# Where a word begins, also after the \\n of a quoted text, and where it ends. Of ASCII: not every script has spaces.
_BEGINS, _ENDS = r"(?:(?<![0-9A-Za-z_])|(?<=\\[nrt]))", r"(?![0-9A-Za-z_])"


class Evidence:
    """The steps of a run, by index, with what came of those that ran."""

    def __init__(self, steps: dict[int, dict[str, Any]], results: dict[int, Result]) -> None:
        """`steps` as plan.created has them."""
        self._steps, self._results = steps, results

    def has(self, index: int) -> bool:
        """Whether the step ran."""
        return index in self._results

    def brought(self, index: int) -> bool:
        """Whether the step ran, and what came of it can be read: one that failed without a word says nothing."""
        ran = self._results.get(index)
        return ran is not None and bool(ran.succeeded or ran.stdout or ran.stderr)

    def mentions(self, text: str) -> bool:
        """Whether it stands in the command or the output of a step that ran, not as a part of a longer word."""
        whole = re.compile(f"{_BEGINS}{re.escape(text)}{_ENDS}")
        parts = (part for ran in self._results.values() for part in (ran.command, ran.stdout, ran.stderr))
        return any(whole.search(part) for part in parts)

    def knows(self, url: str) -> bool:
        """Whether it stands there: whole, or as its host and its path, since pages name each other by their paths."""
        host, _, path = url.partition("://")[2].partition("/")
        return self.mentions(url) or (self.mentions(host) and (not path or self.mentions(path)))

    def told(self) -> str:
        """All of it, for a prompt: outputs are between lines that nobody outside can have written."""
        fence = os.urandom(_NONCE_BYTES).hex()
        share = MOST_CHARACTERS // max(1, 2 * len(self._results))
        return "\n\n".join(self._told_step(index, fence, share) for index in sorted(self._steps))

    def _told_step(self, index: int, fence: str, share: int) -> str:
        head = f"Step {index}: {self._steps[index]['command']}"
        ran = self._results.get(index)
        if ran is None:
            return f"{head}\nnot run, because a step that it needs did not succeed"
        told = [head, f"exit code {ran.exit_code}{_remark(ran)}"]
        for stream, text in (("stdout", ran.stdout), ("stderr", ran.stderr)):
            if text:
                told += [f"[{stream} {fence}]", middle_out(text, share).rstrip("\n"), f"[end {fence}]"]
        return "\n".join(told)


def fenced(name: str, text: str) -> str:
    """A text that is data, between lines that it cannot contain."""
    fence = os.urandom(_NONCE_BYTES).hex()
    return f"[{name} {fence}]\n{text}\n[end {fence}]"


def middle_out(text: str, characters: int) -> str:
    """The text, or its beginning and end."""
    if len(text) <= characters:
        return text
    half = characters // 2
    return f"{text[:half]}\n[{len(text) - 2 * half} characters left out]\n{text[-half:]}"


def _remark(ran: Result) -> str:
    if ran.timed_out:
        return " (it was ended, because its time was over)"
    return " (there was more output than could be kept)" if ran.truncated else ""
