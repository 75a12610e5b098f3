"""The log's wire for a conversation: besides the run functions, what a run token may do for its session.

It keeps the contract of take_input_v1, preview_v1, the transcript's and the files' functions and read_attachment_v1, in
memory, for one session. It has no limits on size but those of one page of input and one transcript batch, and
broadcasts nothing: previews are kept for the test to look at. A transcript entry that jsonb would not take is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from tests.runner.log_server import Call, LogServer, Refusal

TRANSCRIPT_BYTES = 8 * 1024 * 1024
PAGE = 3
INPUT_EVENTS, INPUT_BYTES = 100, 1 << 20


def readable(value: Any) -> bool:
    """Whether jsonb takes it."""
    if isinstance(value, str):
        return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(readable(part) for pair in value.items() for part in pair)
    return all(map(readable, value)) if isinstance(value, list) else True


class SessionLog(LogServer):
    """One session with its user's events, previews, transcripts, files and attachments."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[dict[str, Any]] = []
        self.taken_seq = 0
        self.previews: list[dict[str, Any]] = []
        self.transcripts: dict[str, list[dict[str, Any]]] = {}
        self.files: dict[str, Any] | None = None
        self.attachments: dict[str, dict[str, Any]] = {}
        self.sour: Callable[[Any], bool] = lambda _entry: False
        # What happens just before the first call of a function.
        self.before: dict[str, Callable[[], object]] = {}

    def say(self, kind: str, **data: Any) -> int:
        """The user says something; returns its seq."""
        with self.changed:
            self.input_seq += 10
            self.inputs.append({"seq": self.input_seq, "type": kind, "data": {"id": f"sevt_{self.input_seq}", **data}})
            self.changed.notify_all()
            return self.input_seq

    def message(self, text: str) -> int:
        """A user.message of one text."""
        return self.say("user.message", content=[{"type": "text", "text": text}])

    def confirm(self, event_id: str, result: str = "allow", **more: Any) -> int:
        """A user.tool_confirmation."""
        return self.say("user.tool_confirmation", tool_use_id=event_id, result=result, **more)

    def asked(self) -> list[str]:
        """The event ids that the log waits for, by its last status; empty when the session works or is done."""
        with self.changed:
            statuses = [event for event in self.events if event["type"].startswith("session.status_")]
        stop = statuses[-1]["data"].get("stop_reason", {}) if statuses else {}
        return list(stop.get("event_ids", ()))

    def perform(self, call: Call) -> Any:
        """See LogServer.perform."""
        self.before.pop(call.name, lambda: None)()
        return super().perform(call)

    def answer(self, name: str, body: Any) -> Any:
        """See LogServer.answer."""
        functions = {
            "take_input_v1": self._take,
            "preview_v1": self._preview,
            "append_transcript_v1": self._keep,
            "load_transcript_v1": self._load,
            "list_transcripts_v1": lambda _body: sorted(self.transcripts),
            "save_files_v1": self._save,
            "load_files_v1": lambda _body: self.files,
            "read_attachment_v1": self._attachment,
        }
        if name not in functions:
            raise Refusal(404, f"no function {name}")
        return functions[name](body)

    def check_end(self, status: str) -> None:
        """A run does not end well while a message waits that it was not given."""
        messages = [int(event["seq"]) for event in self.inputs if event["type"] == "user.message"]
        if (
            status in ("succeeded", "cancelled")
            and not self.cancel_requested
            and max(messages, default=0) > self.taken_seq
        ):
            raise Refusal(409, "input_pending", "a message waits")

    def _take(self, body: dict[str, Any]) -> dict[str, Any]:
        events: list[dict[str, Any]] = []
        size = 0
        for event in [event for event in self.inputs if event["seq"] > body["after"]][:INPUT_EVENTS]:
            size += len(json.dumps(event["data"]))
            if events and size > INPUT_BYTES:
                break
            events.append(event)
        last = max([body["after"], *(event["seq"] for event in events)])
        self.taken_seq = max(self.taken_seq, last if events else 0)
        return {"events": events, "last_seq": last}

    def _preview(self, body: dict[str, Any]) -> dict[str, Any]:
        self.previews += body["previews"]
        return self._standing()

    def _keep(self, body: dict[str, Any]) -> dict[str, Any]:
        if len(json.dumps(body["entries"])) > TRANSCRIPT_BYTES:
            raise Refusal(413, "too_large")
        if not all(isinstance(entry, dict) and readable(entry) and not self.sour(entry) for entry in body["entries"]):
            raise Refusal(400, "unsupported Unicode escape sequence")
        kept = self.transcripts.setdefault(body["subpath"], [])
        known = {entry["uuid"] for entry in kept if "uuid" in entry}
        fresh = [entry for entry in body["entries"] if entry.get("uuid") not in known]
        kept += fresh
        return {"taken": len(fresh), "last_n": len(kept)}

    def _load(self, body: dict[str, Any]) -> dict[str, Any]:
        kept, after = self.transcripts.get(body["subpath"], []), body["after"]
        page = [{"n": n, "entry": entry} for n, entry in enumerate(kept, 1) if n > after][:PAGE]
        return {"entries": page, "more": after + len(page) < len(kept)}

    def _save(self, body: dict[str, Any]) -> dict[str, Any]:
        self.files = {**body, "saved_at": "2026-11-21T08:00:00+00:00"}
        return {"saved_at": self.files["saved_at"]}

    def _attachment(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["id"] not in self.attachments:
            raise Refusal(404, "attachment_not_found")
        return self.attachments[body["id"]]
