"""The shipper: one thread, one request in flight, from the spool into the log.

The first event goes at once; then a batch every 50 ms, or sooner when 200 events or 64 KiB wait. A request is
repeated until it is answered. Every answer's `last_n` says where to go on, so that a batch the log took without
our hearing of it, or did not take, needs no case of its own.
"""

from __future__ import annotations

import os
import threading
import time

from .c_json import loads
from .errors import EventsMissing, InputPending, Refused, RunFinished, SpoolLost, Unavailable
from .job import Ending
from .log import LIVE
from .spool import Batch, Reader, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .log import Log, Standing
    from .spool import Spool

LINGER_SECONDS = 0.05
BATCH_ROWS = 200
BATCH_BYTES = 64 * 1024
HEARTBEAT_SECONDS = 5.0
# While a conversation is held: an answer of the user whose doorbell was lost waits no longer than this.
CONVERSATION_HEARTBEAT_SECONDS = 2.0
DOORBELL_SECONDS = 0.1
BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_CAP_SECONDS = 5.0
ENDED_TRIES = 4


class Shipper:
    """Carries the spool to the log until the run is finished there.

    `cancel_requested` and `alarm` are set by the thread and read by everyone: the alarm is the reason why the run
    cannot go on (Superseded, RunFinished, SpoolLost, or a defect of the thread itself). `input_seq` is the newest
    user event that an answer spoke of. `budget_reached` is the newest answer's: a budget may be raised.
    """

    def __init__(self, spool: Spool, log: Log, doorbell: str, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        self.cancel_requested = False
        self.input_seq = 0
        self.budget_reached: dict[str, Any] | None = None
        self.alarm: BaseException | None = None
        self._spool = spool
        self._log = log
        self._reader = Reader(spool)
        self._held = 0
        self._rows = BATCH_ROWS
        self._doorbell = doorbell
        self._rung = _signature(doorbell)
        self._attempts = 0
        self._next_batch = self._next_heartbeat = 0.0
        self._ending: Ending | None = None
        self._heartbeat_seconds = heartbeat_seconds
        self._over = self._input_pending = False
        self._arrived = threading.Event()
        self._changed = threading.Condition()
        self._answered = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ship", daemon=True)

    def start(self, restarted: bool, ending: Ending | None = None) -> None:
        """Begin. After a restart the log is asked first how much it holds; it may know of the `ending` already."""
        self._ending = ending
        self._next_heartbeat = time.monotonic() + (0 if restarted else self._heartbeat_seconds)
        self._spool.on_append = self._notice
        self._thread.start()

    def await_answer(self) -> None:
        """Wait until the log has answered once, or the alarm is set."""
        self._answered.wait()

    def await_held(self, n: int, seconds: float) -> bool:
        """Whether the log holds event `n`; waits for it, at most `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._over or self._held >= n, seconds) and self._held >= n

    def close(self) -> None:
        """Wait for the thread, after an alarm that ends it."""
        self._thread.join()

    def finish(self, ending: Ending) -> bool:
        """Ship what is left, finish the run and tell functions; returns when that is done. Raise the alarm.

        False when the log does not let the run end, because a message waits for it: then it goes on.
        """
        self._ending = ending
        self._arrived.set()
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._input_pending)
            pending, self._input_pending = self._input_pending, False
        if pending:
            return False
        self._thread.join()
        if self.alarm is not None and not isinstance(self.alarm, SpoolLost):
            raise self.alarm
        return True

    def _notice(self) -> None:
        """Called after each append: wakes the thread only for what changes its plan."""
        rows, size = self._reader.pending()
        if (rows == 1 or rows >= self._rows or size >= BATCH_BYTES) and not self._arrived.is_set():
            self._arrived.set()

    def _run(self) -> None:
        try:
            while not self._step(self._due()):
                pass
        except RunFinished as end:
            self.alarm = end
            self._say_ended()
        except BaseException as error:  # noqa: BLE001 the edge of the thread: the main thread must learn of it
            self.alarm = error
        finally:
            self._answered.set()
            self._log.close()
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _due(self) -> str:
        """Wait for the next thing to do: heartbeat, batch or finish."""
        while True:
            self._arrived.clear()
            now = time.monotonic()
            rows, size = self._reader.pending()
            full = rows >= self._rows or size >= BATCH_BYTES
            if now >= self._next_heartbeat or self._doorbell_rang():
                return "heartbeat"
            if rows and (full or self._ending is not None or now >= self._next_batch):
                return "batch"
            if self._ending is not None and not rows:
                return "finish"
            until = min(self._next_heartbeat, self._next_batch if rows else now + DOORBELL_SECONDS)
            self._arrived.wait(min(DOORBELL_SECONDS, until - now))

    def _step(self, due: str) -> bool:
        """Do it. True when the run is finished."""
        if due == "finish":
            return self._finish()
        if due == "batch":
            self._ship()
        else:
            self._settle(self._insist(self._log.heartbeat))
            self._attempts = 0
        return False

    def _ship(self) -> None:
        """One batch. One that the log refuses for what it is gets halved, down to the event at fault."""
        self._next_batch = time.monotonic() + LINGER_SECONDS
        batch = self._reader.batch(self._rows, BATCH_BYTES)
        try:
            standing: Standing | None = self._insist(lambda: self._log.append(batch))
        except Refused as refusal:
            standing = self._divide(batch, refusal)
        if standing is not None:
            self._rows = min(BATCH_ROWS, self._rows * 2)
            self._advance(batch, standing)

    def _divide(self, batch: Batch, refusal: Refused) -> Standing | None:
        """Ask for half as much next time, or put a small event in the place of the one that is refused."""
        rows = batch.last - batch.first + 1
        if rows > 1:
            self._rows = rows // 2
            return None
        substitute = _event_refused(batch, refusal)
        return self._insist(lambda: self._log.append(substitute), refused_too=True)

    def _advance(self, batch: Batch, standing: Standing) -> None:
        """Go on where the log says."""
        before = self._reader.n
        if standing.last_n == batch.last:
            self._reader.advance(batch)
        self._settle(standing)
        if self._reader.n == before:
            self._pause(None)  # accepted, yet nothing taken: do not spin
        else:
            self._attempts = 0

    def _settle(self, standing: Standing) -> None:
        """Take in what an answer says. Raise RunFinished when the run is over for the log but not for us."""
        self._next_heartbeat = time.monotonic() + self._heartbeat_seconds
        self.cancel_requested = self.cancel_requested or standing.cancel_requested
        self.input_seq = max(self.input_seq, standing.input_seq)
        self.budget_reached = standing.budget_reached
        with self._changed:
            self._held = standing.last_n
            self._changed.notify_all()
        if standing.last_n > self._spool.n and self.alarm is None:
            self.alarm = SpoolLost(f"the log holds {standing.last_n} events, this disk {self._spool.n}")
        self._answered.set()
        self._reader.seek(standing.last_n)
        if standing.status not in LIVE and self._ending is None:
            raise RunFinished(f"the run is {standing.status}")

    def _insist(self, call: Callable[[], Standing], refused_too: bool = False) -> Standing:
        """Repeat a call until it is answered, for ever. Raise what repeating cannot mend."""
        while True:
            try:
                standing = call()
            except Unavailable as fault:
                self._pause(fault.retry_after)
            except Refused:
                if not refused_too:
                    raise
                self._pause(None)
            else:
                return standing

    def _pause(self, retry_after: float | None) -> None:
        """As long as the server asks, otherwise 0.1 s doubling to 5 s, times 0.5 to 1.5 at random."""
        if retry_after is None:
            jitter = 0.5 + os.urandom(1)[0] / 256
            retry_after = min(BACKOFF_CAP_SECONDS, BACKOFF_FIRST_SECONDS * 2 ** min(self._attempts, 16)) * jitter
        self._attempts += 1
        time.sleep(retry_after)

    def _finish(self) -> bool:
        ending = self._ending
        assert ending is not None  # noqa: S101 _due() says finish only then
        last_n = max(self._held, self._spool.n)
        try:
            self._insist(lambda: self._log.finish(ending, last_n))
        except EventsMissing as gap:
            self._reader.seek(gap.last_n)
            self._held = gap.last_n
            self._pause(None)
            return False
        except InputPending:
            self._go_on()
            return False
        except Refused as refusal:
            self._ending = _plainer(ending, refusal)
            self._pause(None)
            return False
        self._say_ended()
        return True

    def _go_on(self) -> None:
        """After fresh news: a budget that ended the run may have been raised together with the message."""
        self._settle(self._insist(self._log.heartbeat))
        with self._changed:
            self._ending, self._input_pending = None, True
            self._changed.notify_all()

    def _say_ended(self) -> None:
        """A few tries; the sweep does the same work when all are lost."""
        self._attempts = 0
        for _ in range(ENDED_TRIES):
            if self._log.say_ended():
                return
            self._pause(None)

    def _doorbell_rang(self) -> bool:
        signature = _signature(self._doorbell)
        if signature == self._rung:
            return False
        self._rung = signature
        return True


def _signature(path: str) -> tuple[int, int, int] | None:
    """Changes whenever the file is touched, written or replaced."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _event_refused(batch: Batch, refusal: Refused) -> Batch:
    """The event that stands in the log where one was refused: same `n`, so that the run goes on and ends."""
    event = loads(batch.lines.decode())
    data = {"type": event["type"], "bytes": len(batch.lines), "reason": str(refusal)}
    return Batch(batch.first, 1, encode(batch.first, "run.event_refused", data, event["at"]))


def _plainer(ending: Ending, refusal: Refused) -> Ending:
    """The same end without the parts that may have been refused."""
    return Ending(ending.status, None, {"type": "ending_refused", "message": str(refusal)})
