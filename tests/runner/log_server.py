"""A fake of the REST wire the runner speaks: the run functions and `ended`, in memory, over real HTTP.

It keeps the contract of append_events_v1, heartbeat_v1 and finish_run_v1 for one run: contiguous `n`, duplicates
dropped, nothing taken after a hole, refusals as PostgREST writes them. Faults are queued and used up one per request.
It does not check JWTs (only that the bearer is the expected one), knows no `seq`, and broadcasts nothing.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

TERMINAL = {"succeeded", "failed", "cancelled", "timed_out", "lost"}


class Fault:
    """What happens to one request instead of, or besides, its answer.

    `applied`: the call takes effect before the fault. `status` answers that; None cuts the connection.
    `seconds` is waited first.
    """

    def __init__(
        self,
        status: int | None = None,
        *,
        applied: bool = False,
        headers: dict[str, str] | None = None,
        seconds: float = 0,
        body: bytes = b"{}",
    ) -> None:
        self.status, self.applied, self.headers = status, applied, headers or {}
        self.seconds, self.body = seconds, body


def slow(seconds: float) -> Fault:
    """A good answer, late."""
    return Fault(0, seconds=seconds)


class Call:
    """One request as it arrived."""

    def __init__(self, path: str, body: Any, size: int, headers: dict[str, str]) -> None:
        self.path, self.body, self.size, self.headers = path, body, size, headers
        self.at = time.monotonic()
        self.name = path.rpartition("/")[2]

    def numbers(self) -> list[int]:
        """The `n` of an append."""
        return [event["n"] for event in self.body["events"]]


class Refusal(Exception):
    """A PTxyz error of SQL."""

    def __init__(self, status: int, message: str, details: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.details = status, message, details


class LogServer:
    """The server; a context manager. Its fields are the run's row and its log."""

    def __init__(self, delay: float = 0, keep: bool = True) -> None:
        self.events: list[dict[str, Any]] = []
        self.calls: list[Call] = []
        self.last_n = 0
        self.status = "launching"
        self.finished: dict[str, Any] | None = None
        self.cancel_requested = False
        self.input_seq = 0
        self.budget_reached: dict[str, Any] | None = None
        self.bearer = "egress"
        self.forbidden = 0
        self.poison: Callable[[dict[str, Any]], bool] = lambda _event: False
        self.faults: dict[str, list[Fault]] = {}
        self.delay, self.keep = delay, keep
        self.changed = threading.Condition(threading.RLock())
        self._server = _Http(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fault(self, name: str, *faults: Fault) -> None:
        """Queue faults for the next calls of `name` (append_events_v1, heartbeat_v1, finish_run_v1, ended)."""
        with self.changed:
            self.faults.setdefault(name, []).extend(faults)

    def wait(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Block until the condition holds. Raise TimeoutError, with what the log holds."""
        with self.changed:
            if not self.changed.wait_for(condition, seconds):
                raise TimeoutError(f"{self.status} {self.last_n} {[event['type'] for event in self.events[-5:]]}")

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The data of the events of a type."""
        with self.changed:
            return [event["data"] for event in self.events if event["type"] == kind]

    def called(self, name: str) -> list[Call]:
        """The calls of a function, in order."""
        with self.changed:
            return [call for call in self.calls if call.name == name]

    def perform(self, call: Call) -> Any:
        """The call's effect, and its answer. Raise Refusal."""
        if call.name == "ended":
            return {}
        if call.headers.get("authorization") != f"Bearer {self.bearer}":
            raise Refusal(401, "bad_jwt")
        if self.forbidden:
            raise Refusal(self.forbidden, "stale_epoch")
        if call.name == "append_events_v1":
            self._append(call.body["events"])
        elif call.name == "finish_run_v1":
            self._finish(call.body)
        elif call.name != "heartbeat_v1":
            return self.answer(call.name, call.body)
        return self._standing()

    def answer(self, name: str, _body: Any) -> Any:
        """The answer of any other function; there is none here. Raise Refusal."""
        raise Refusal(404, f"no function {name}")

    def _standing(self) -> dict[str, Any]:
        return {
            "last_n": self.last_n,
            "last_seq": self.last_n + 1,
            "cancel_requested": self.cancel_requested,
            "status": self.status,
            "input_seq": self.input_seq,
            "budget_reached": self.budget_reached,
        }

    def _append(self, events: list[dict[str, Any]]) -> None:
        fresh = [event for event in events if event["n"] > self.last_n]
        if fresh and self.status in TERMINAL:
            raise Refusal(409, "run_finished")
        if any(self.poison(event) for event in fresh):
            raise Refusal(400, "unsupported Unicode escape sequence")
        for event in fresh:
            if event["n"] != self.last_n + 1:
                break
            self.last_n += 1
            self.status = "running"
            if self.keep:
                self.events.append(event)

    def _finish(self, body: dict[str, Any]) -> None:
        if self.status in TERMINAL:
            return
        if body["last_n"] != self.last_n:
            raise Refusal(409, "events_missing", str(self.last_n))
        self.check_end(body["status"])
        self.status, self.finished = body["status"], body

    def check_end(self, status: str) -> None:
        """Whether the run may end so; it always may here. Raise Refusal."""


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, log: LogServer) -> None:
        self.log = log
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed in the middle of a request is what these tests do."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the base class's name
        """Silent."""

    def do_POST(self) -> None:
        log = self.server.log
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.path, json.loads(raw), len(raw), headers)
        with log.changed:
            if log.keep or call.name != "append_events_v1":
                log.calls.append(call)
            queue = log.faults.get(call.name)
            fault = queue.pop(0) if queue else None
            log.changed.notify_all()
        time.sleep(log.delay + (fault.seconds if fault else 0))
        if fault is not None and fault.status != 0:
            self._fail(log, call, fault)
        else:
            self._answer(log, call)

    def _fail(self, log: LogServer, call: Call, fault: Fault) -> None:
        if fault.applied:
            with log.changed:
                log.perform(call)
                log.changed.notify_all()
        if fault.status is None:
            self.close_connection = True
        else:
            self._send(fault.status, fault.body, fault.headers)

    def _answer(self, log: LogServer, call: Call) -> None:
        with log.changed:
            try:
                status, said = 200, log.perform(call)
            except Refusal as refusal:
                status = refusal.status
                said = {"code": f"PT{status}", "message": refusal.message, "details": refusal.details, "hint": None}
            log.changed.notify_all()
        self._send(status, json.dumps(said).encode(), {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
