"""Live text on its way: previews go out by a thread of their own. They may be lost, and nothing waits for them."""

from __future__ import annotations

import contextlib
import json
import queue
import threading

from ...errors import CallFailed, RunnerError
from ...log import Functions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...job import Job

# When the log is slower than the text, the oldest waits no longer than this many broadcasts.
WAITING = 4
CALL_SECONDS = 3.0


class Live:
    """Sends previews."""

    def __init__(self, job: Job) -> None:
        self._functions = Functions(job)
        self._waiting: queue.Queue[list[dict[str, Any]] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._send, name="live", daemon=True)
        self._thread.start()

    def show(self, previews: list[dict[str, Any]]) -> None:
        """Send them soon, or never."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(previews)

    def close(self) -> None:
        """No more will come. Does not wait."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)

    def _send(self) -> None:
        try:
            while (previews := self._waiting.get()) is not None:
                try:
                    self._functions.call("preview_v1", json.dumps({"previews": previews}).encode(), CALL_SECONDS)
                except CallFailed:
                    continue
        except RunnerError:
            pass  # the run is over for the log
        finally:
            self._functions.close()
