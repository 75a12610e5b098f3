"""The log as the runner sees it: three SQL functions over Supabase's REST, and what their answers mean."""

from __future__ import annotations

from .c_json import dumps, loads
from .errors import EventsMissing, InputPending, Refused, RunFinished, Superseded, Unavailable
from .spool import clean
from .wire import Wire, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .job import Ending, Job
    from .spool import Batch
    from .wire import Answer

REQUEST_SECONDS = 10.0
# The files of a working directory come back in one answer.
ANSWER_LIMIT_BYTES = 1 << 24
RETRY_AFTER_CAP_SECONDS = 300.0
LIVE = ("launching", "running")


class Standing:
    """What every answer says: the highest `n` the log holds, whether to cancel, the run's status there.

    `input_seq` is the seq of the session's last `user.*` event. `budget_reached` is None, or the budget that is spent:
    {"scope", "spent_microusd", "limit_microusd"}. A database before the ledger does not speak of it.
    """

    def __init__(self, said: dict[str, Any]) -> None:
        """Raise KeyError, TypeError or ValueError when it says something else."""
        self.last_n = int(said["last_n"])
        self.cancel_requested = bool(said["cancel_requested"])
        self.status = str(said["status"])
        self.input_seq = int(said.get("input_seq") or 0)
        self.budget_reached = _budget(said.get("budget_reached"))


class Functions:
    """The SQL functions that a run token may call. Not for use by two threads.

    Each call raises Superseded, RunFinished, Refused, EventsMissing, InputPending or Unavailable.
    """

    def __init__(self, job: Job) -> None:
        headers = {"apikey": job.publishable_key, "Authorization": f"Bearer {job.token}"}
        self._rest = Wire(job.supabase_url + "/rest/v1/rpc", headers, ANSWER_LIMIT_BYTES)

    def call(self, function: str, body: bytes, seconds: float | None = None) -> Any:
        """What the function returns, parsed; None where that is no JSON. Within `REQUEST_SECONDS`, if not said."""
        try:
            answer = self._rest.post("/" + function, body, seconds or REQUEST_SECONDS)
        except WireError as error:
            raise Unavailable(str(error)) from error
        said = _parsed(answer)
        if not 200 <= answer.status < 300:
            raise _fault(answer, said if isinstance(said, dict) else {})
        return said

    def close(self) -> None:
        """Drop the connection."""
        self._rest.close()


class Log:
    """The run's own log. Every call may be repeated; each raises Superseded, RunFinished, Refused or Unavailable."""

    def __init__(self, job: Job) -> None:
        self._functions = Functions(job)
        self._ended = Wire(job.ended_url, {"Authorization": f"Bearer {job.token}"}) if job.ended_url else None

    def append(self, batch: Batch) -> Standing:
        """append_events_v1 with lines of the spool as they are."""
        return self._call("append_events_v1", b'{"events":%b}' % batch.array())

    def heartbeat(self) -> Standing:
        """heartbeat_v1."""
        return self._call("heartbeat_v1", b"{}")

    def finish(self, ending: Ending, last_n: int) -> Standing:
        """finish_run_v1. Raise EventsMissing too, when the log does not hold exactly `last_n`, and InputPending."""
        body = {"status": ending.status, "last_n": last_n, "result": ending.result, "error": ending.error}
        return self._call("finish_run_v1", dumps(clean(body)).encode())

    def say_ended(self) -> bool:
        """Tell functions that the run is over. False when it is worth telling again."""
        if self._ended is None:
            return True
        try:
            answer = self._ended.post("", b"{}", REQUEST_SECONDS)
        except WireError:
            return False
        return answer.status < 500 and answer.status != 429

    def close(self) -> None:
        """Drop the connections."""
        self._functions.close()
        if self._ended is not None:
            self._ended.close()

    def _call(self, function: str, body: bytes) -> Standing:
        said = self._functions.call(function, body)
        try:
            return Standing(said)
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(f"{function} answered something else") from error


def _budget(told: dict[str, Any] | None) -> dict[str, Any] | None:
    if told is None:
        return None
    amounts = {name: int(told[name]) for name in ("spent_microusd", "limit_microusd")}
    return {"scope": str(told["scope"]), **amounts}


def _parsed(answer: Answer) -> Any:
    try:
        return loads(answer.body.decode())
    except ValueError:
        return None


def _fault(answer: Answer, said: dict[str, Any]) -> Exception:
    """What a refusal means. `message` is the word that SQL raised."""
    status, word = answer.status, str(said.get("message", ""))
    told = f"{status} {word}"[:200]
    if status in (401, 403):
        return Superseded(told)
    if status == 409 and word == "events_missing":
        return EventsMissing(int(said.get("details") or 0))
    if status == 409 and word == "input_pending":
        return InputPending(told)
    if status == 409 and word == "run_finished":
        return RunFinished(told)
    if status in (400, 413, 422):
        return Refused(told)
    return Unavailable(told, _retry_after(answer.headers.get("retry-after", "")))


def _retry_after(value: str) -> float | None:
    """Seconds to wait. The form with a date is not read: the sandbox's clock decides nothing."""
    return min(float(value), RETRY_AFTER_CAP_SECONDS) if value.isdigit() else None
