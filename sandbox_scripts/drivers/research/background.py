"""A call in a thread of its own, so that whoever waits for it can be cut short."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

POLL_SECONDS = 0.02


class Background(Generic[T]):
    """Begins at once. It is never ended: the thread goes with the process."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._done = threading.Event()
        self._value: T | None = None
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name="research", daemon=True).start()

    def done(self, seconds: float) -> bool:
        """Whether the call is over; waits for it, at most `seconds`."""
        return self._done.wait(seconds)

    def has_value(self) -> bool:
        """Whether the call is over and went well."""
        return self._done.is_set() and self._error is None

    def value(self) -> T:
        """What the finished call returned. Raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value] # set when there is no error

    def _run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001 the edge of the thread: whoever waits raises it
            self._error = error
        finally:
            self._done.set()
