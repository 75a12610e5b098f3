"""The log as the runner sees it: three SQL functions over Supabase's REST, and what their answers mean."""

from __future__ import annotations

import json

from .errors import EventsMissing, Refused, RunFinished, Superseded, Unavailable
from .wire import Wire, WireError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .job import Ending, Job
    from .spool import Batch
    from .wire import Answer

REQUEST_SECONDS = 10.0
RETRY_AFTER_CAP_SECONDS = 300.0
LIVE = ("launching", "running")


class Standing:
    """What every answer says: the highest `n` the log holds, whether to cancel, the run's status there."""

    def __init__(self, last_n: int, cancel_requested: bool, status: str) -> None:
        self.last_n = last_n
        self.cancel_requested = cancel_requested
        self.status = status


class Log:
    """The run's own log. Every call may be repeated; each raises Superseded, RunFinished, Refused or Unavailable."""

    def __init__(self, job: Job) -> None:
        bearer = {"Authorization": f"Bearer {job.token}"}
        self._rest = Wire(job.supabase_url + "/rest/v1/rpc", {"apikey": job.publishable_key, **bearer})
        self._ended = Wire(job.ended_url, bearer) if job.ended_url else None

    def append(self, batch: Batch) -> Standing:
        """append_events_v1 with lines of the spool as they are."""
        return self._call("append_events_v1", b'{"events":%b}' % batch.array())

    def heartbeat(self) -> Standing:
        """heartbeat_v1."""
        return self._call("heartbeat_v1", b"{}")

    def finish(self, ending: Ending, last_n: int) -> Standing:
        """finish_run_v1. Raise EventsMissing too, when the log does not hold exactly `last_n`."""
        body = {"status": ending.status, "last_n": last_n, "result": ending.result, "error": ending.error}
        return self._call("finish_run_v1", json.dumps(body).encode())

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
        self._rest.close()
        if self._ended is not None:
            self._ended.close()

    def _call(self, function: str, body: bytes) -> Standing:
        try:
            answer = self._rest.post("/" + function, body, REQUEST_SECONDS)
        except WireError as error:
            raise Unavailable(str(error)) from error
        said = _parsed(answer)
        if not 200 <= answer.status < 300:
            raise _fault(answer, said)
        try:
            return Standing(int(said["last_n"]), bool(said["cancel_requested"]), str(said["status"]))
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(f"{function} answered something else") from error


def _parsed(answer: Answer) -> dict[str, Any]:
    try:
        said = json.loads(answer.body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _fault(answer: Answer, said: dict[str, Any]) -> Exception:
    """What a refusal means. `message` is the word that SQL raised."""
    status, word = answer.status, str(said.get("message", ""))
    told = f"{status} {word}"[:200]
    if status in (401, 403):
        return Superseded(told)
    if status == 409 and word == "events_missing":
        return EventsMissing(int(said.get("details") or 0))
    if status == 409 and word == "run_finished":
        return RunFinished(told)
    if status in (400, 413, 422):
        return Refused(told)
    return Unavailable(told, _retry_after(answer.headers.get("retry-after", "")))


def _retry_after(value: str) -> float | None:
    """Seconds to wait. The form with a date is not read: the sandbox's clock decides nothing."""
    return min(float(value), RETRY_AFTER_CAP_SECONDS) if value.isdigit() else None
