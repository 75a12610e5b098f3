"""A fake of the two model wires: OpenAI's chat completions and Anthropic's messages, over real HTTP, from a queue.

Each request is answered by the next reply of the queue, on whichever path it comes. It does not stream, checks no key
and no schema, and knows no other endpoint. When nothing is left to say it answers 418, which no client repeats.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 40}}
MESSAGE_USAGE = {
    "input_tokens": 60,
    "output_tokens": 20,
    "cache_creation_input_tokens": 7,
    "cache_read_input_tokens": 40,
}


class Said:
    """What the model says, and why it stops. `held` is waited for first."""

    def __init__(
        self,
        content: Any,
        *,
        refusal: str | None = None,
        is_cut: bool = False,
        held: threading.Event | None = None,
    ) -> None:
        self.text = content if isinstance(content, str) else json.dumps(content)
        self.refusal, self.is_cut, self.held = refusal, is_cut, held

    def completion(self, model: str) -> dict[str, Any]:
        """On OpenAI's wire."""
        message = {"role": "assistant", "content": None if self.refusal else self.text, "refusal": self.refusal}
        choice = {"index": 0, "message": message, "finish_reason": "length" if self.is_cut else "stop"}
        said = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model}
        return {**said, "choices": [choice], "usage": USAGE}

    def message(self, model: str) -> dict[str, Any]:
        """On Anthropic's."""
        stop_reason = "refusal" if self.refusal else "max_tokens" if self.is_cut else "end_turn"
        content = [{"type": "text", "text": self.refusal or self.text}]
        said = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "stop_sequence": None}
        return {**said, "content": content, "stop_reason": stop_reason, "usage": MESSAGE_USAGE}


class Broken:
    """An answer that is no reply: a status, or with None a cut connection; `body` as it is."""

    def __init__(self, status: int | None, body: bytes = b'{"error":{"message":"broken"}}', **headers: str) -> None:
        self.status, self.body = status, body
        self.headers = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}


class Asked:
    """One request as it arrived."""

    def __init__(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> None:
        self.path, self.headers, self.body = path, headers, body
        self.at = time.monotonic()
        messages = body["messages"]
        self.system: str = body["system"] if "system" in body else messages[0]["content"]
        self.prompt: str = messages[-1]["content"]
        config = body.get("output_config", {}).get("format") or body["response_format"]["json_schema"]
        self.schema: dict[str, Any] = config["schema"]


class ModelServer:
    """The server; a context manager. A reply may be a function of the request."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.replies: list[Said | Broken | Callable[[Asked], Said]] = []
        self.changed = threading.Condition()
        self._server = _Http(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def say(self, *replies: Said | Broken | Callable[[Asked], Said]) -> None:
        """Queue replies."""
        self.replies.extend(replies)

    def wait(self, requests: int, seconds: float = 30) -> None:
        """Block until so many have come. Raise TimeoutError."""
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.asked) >= requests, seconds):
                raise TimeoutError(f"{len(self.asked)} requests")

    def take(self, asked: Asked) -> Said | Broken:
        """The reply to a request."""
        with self.changed:
            self.asked.append(asked)
            reply = self.replies.pop(0) if self.replies else Broken(418)
            self.changed.notify_all()
        return reply(asked) if callable(reply) else reply


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    # A held reply is let go of by nobody, once its client was killed.
    block_on_close = False

    def __init__(self, models: ModelServer) -> None:
        self.models = models
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
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = self.server.models.take(Asked(self.path, headers, body))
        if isinstance(reply, Broken):
            self._break(reply)
            return
        if reply.held is not None:
            reply.held.wait(60)
        is_openai = self.path == "/v1/chat/completions"
        said = reply.completion(body["model"]) if is_openai else reply.message(body["model"])
        self._send(200, json.dumps(said).encode(), {"content-type": "application/json"})

    def _break(self, broken: Broken) -> None:
        if broken.status is None:
            self.close_connection = True
        else:
            self._send(broken.status, broken.body, broken.headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
