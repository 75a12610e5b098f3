"""A stand-in for the CLI that misbehaves in one way, named by FAKE_CLI.

It speaks as much of stream-json as the driver's tests need: answers `initialize` and `interrupt`, takes prompts, writes
assistant lines and results, asks for permission. It calls no model and runs no tool. Every way but those that say
otherwise answers a prompt with its own text, and exits when stdin ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

LONG_LINE_BYTES = 50 * 1024 * 1024
SPENT = {"subtype": "error_max_budget_usd", "is_error": True, "terminal_reason": "budget_exhausted"}
SESSION = {"session_id": "fake", "parent_tool_use_id": None}


class Cli:
    """One process's state."""

    def __init__(self) -> None:
        self.way = os.environ.get("FAKE_CLI", "polite")
        self.count = 0
        self.answers: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []

    def write(self, value: dict[str, Any]) -> None:
        """One line."""
        raw(json.dumps(value) + "\n")

    def message(self, *content: dict[str, Any]) -> None:
        """An assistant line."""
        self.count += 1
        message = {"id": f"msg_{os.getpid()}_{self.count}", "type": "message", "role": "assistant", "model": "fake"}
        usage = {"input_tokens": 1, "output_tokens": 1}
        self.write({"type": "assistant", "message": {**message, "content": list(content), "usage": usage}, **SESSION})

    def say(self, text: str) -> None:
        """A text."""
        self.message({"type": "text", "text": text})

    def result(self, **more: Any) -> None:
        """The end of a turn."""
        told = {"subtype": "success", "is_error": False, "result": "done", "num_turns": 1, "total_cost_usd": 0.01}
        self.write({"type": "result", **told, **more, "session_id": "fake", "uuid": f"result-{self.count}"})

    def use(self, *names: str) -> list[str]:
        """A message that uses tools, and the CLI's requests for permission."""
        uses = [f"toolu_{self.count}_{index}" for index, _ in enumerate(names)]
        pairs = list(zip(uses, names, strict=False))
        self.message(*({"type": "tool_use", "id": use, "name": name, "input": {"command": "x"}} for use, name in pairs))
        for use, name in pairs:
            request = {"subtype": "can_use_tool", "tool_name": name, "input": {"command": "x"}, "tool_use_id": use}
            self.write({"type": "control_request", "request_id": f"ask-{use}", "request": request})
        self.asked = uses
        return uses

    def used(self, use: str, text: str) -> None:
        """A tool's result."""
        content = [{"type": "tool_result", "tool_use_id": use, "content": text, "is_error": False}]
        self.write({"type": "user", "message": {"role": "user", "content": content}, **SESSION})


def raw(text: str) -> None:
    """To stdout, all of it."""
    data = text.encode()
    while data:
        data = data[os.write(1, data) :]


def hang() -> None:
    """For ever, as far as a test can tell."""
    while True:
        time.sleep(60)


def turn(cli: Cli, text: str) -> None:
    """Answer a prompt in the way that was asked for."""
    cli.say(f"you said {text}")
    if cli.way in ("no_result", "deaf") or (cli.way == "deaf_later" and cli.count > 1):
        return  # the main loop goes on reading, and answers interrupts if it hears them
    if cli.way == "die":
        sys.stderr.write("the fake has died of something\n")
        os._exit(3)
    if cli.way == "ask":
        cli.use("Bash")
    elif cli.way == "ask_two":
        cli.use("Bash", "Write")
    else:
        before_result(cli)
        cli.result(**(SPENT if cli.way == "spent" else {}))
        after_result(cli)


def before_result(cli: Cli) -> None:
    """What goes wrong before a result."""
    if cli.way == "silent":
        hang()
    elif cli.way == "close_stdout":
        os.close(1)
        hang()
    elif cli.way == "stubborn":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        hang()
    elif cli.way == "long_line":
        raw('{"type":"assistant","message":"' + "x" * LONG_LINE_BYTES + '"}\n')
    elif cli.way == "foreign":
        half = json.dumps({"type": "assistant", **SESSION, "message": {
            "id": "msg_cut", "type": "message", "role": "assistant", "model": "fake",
            "content": [{"type": "text", "text": "a sentence that was cut in two"}]}})  # fmt: skip
        event = json.dumps({"type": "rate_limit_event", "rate_limit_info": {"status": "allowed"}, **SESSION})
        raw(half[:150] + event + "\n" + half[150:] + "\n")
    elif cli.way == "arguments":
        cli.say(" ".join(sys.argv[1:]))
    elif cli.way == "environment":
        cli.say(" ".join(sorted(f"{name}={value}" for name, value in os.environ.items())))


def after_result(cli: Cli) -> None:
    """What goes wrong after it."""
    if cli.way == "linger":
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        hang()
    elif cli.way == "linger_stubborn":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        hang()
    elif cli.way == "holds_output":
        subprocess.Popen(["setsid", "sleep", "1000"], stdin=subprocess.DEVNULL)
        os._exit(0)
    elif cli.way == "grandchildren":
        subprocess.Popen(["setsid", "sleep", "1000"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def answered(cli: Cli, message: dict[str, Any]) -> None:
    """An answer to a request for permission; the last one ends the turn."""
    response = message["response"]
    use = response["request_id"].removeprefix("ask-")
    said = response.get("response", {})
    cli.used(use, said.get("message") or said.get("behavior", "?"))
    cli.asked.remove(use)
    if not cli.asked:
        cli.say("all answered")
        cli.result()


def control(cli: Cli, message: dict[str, Any]) -> None:
    """initialize and interrupt."""
    subtype, request_id = message["request"]["subtype"], message["request_id"]
    if subtype == "interrupt" and cli.way.startswith("deaf"):
        return
    response = {"subtype": "success", "request_id": request_id, "response": {}}
    cli.write({"type": "control_response", "response": response})
    if subtype == "interrupt":
        for use in cli.asked:
            cli.write({"type": "control_cancel_request", "request_id": f"ask-{use}"})
        cli.asked = []
        cli.result(subtype="error_during_execution", terminal_reason="aborted_streaming", result="")


def main() -> None:
    """Read stdin to its end."""
    cli = Cli()
    if cli.way == "mute":
        hang()
    if "--resume" in " ".join(sys.argv):
        cli.say("resumed")
    for line in sys.stdin:
        message = json.loads(line)
        if message["type"] == "control_request":
            control(cli, message)
        elif message["type"] == "control_response":
            answered(cli, message)
        elif message["type"] == "user":
            content = message["message"]["content"]
            turn(cli, content if isinstance(content, str) else " ".join(b.get("text", b["type"]) for b in content))


if __name__ == "__main__":
    main()
