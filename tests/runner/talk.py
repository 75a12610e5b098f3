"""A conversation on the bench: the job of kind claude, the log it goes to, and which CLI there is."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

from tests.runner.conftest import ROOT, Bench
from tests.runner.session_server import SessionLog

HIDES = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "claude_agent_sdk" else found(name, *rest)
"""
ALLOW, ASK = {"type": "always_allow"}, {"type": "always_ask"}


def toolset(policy: dict[str, str] = ALLOW, **named: dict[str, Any]) -> dict[str, Any]:
    """An agent toolset; `named` are the configs of single tools."""
    configs = [{"name": name, "enabled": True, "permission_policy": policy, **config} for name, config in named.items()]
    default = {"enabled": True, "permission_policy": policy}
    return {"type": "agent_toolset_20260401", "default_config": default, "configs": configs}


def agent(*tools: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An agent as the job has it."""
    return {
        "type": "agent",
        "id": "agent_test",
        "version": 1,
        "name": "Test",
        "model": {"id": "claude-sonnet-5", "effort": None},
        "system": None,
        "tools": list(tools) or [toolset()],
        "mcp_servers": [],
        **fields,
    }


class Talk(Bench):
    """One run of kind claude."""

    log: SessionLog

    def __init__(self, directory: Path, log: SessionLog) -> None:
        super().__init__(directory, log)
        self.run_id = f"{self.run_id[4:12]}-0000-4000-8000-000000000000"
        self.session_id = f"{self.run_id[:8]}-1111-4000-8000-000000000000"
        self.work = self.home / "workspace"
        self.bin = directory / "bin"

    def fake(self) -> None:
        """Put the fake CLI on the runner's PATH."""
        self.bin.mkdir(exist_ok=True)
        script = self.bin / "claude"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/runner/fake_cli.py "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)

    def prepare(self, limits: dict[str, float] | None = None, job: dict[str, Any] | None = None, **input: Any) -> Path:
        """Write the job file."""
        given = {
            "after_seq": 0,
            "resume": False,
            "fresh": False,
            "agent": agent(),
            "resources": [],
            "model_url": "http://127.0.0.1:9",
            "budget_microusd": None,
            "limits": {"turn_seconds": 60, "exit_seconds": 5, "silent_seconds": 60, **(limits or {})},
            **input,
        }
        fields = {"kind": "claude", "session_id": self.session_id, "working_directory": str(self.work), **(job or {})}
        return self.job(**{"input": given, "limit_seconds": 120, **fields})

    def start(self, way: str = "polite", **environment: str) -> Any:
        """Start the runner; `way` is how the fake CLI behaves."""
        path = f"{self.bin}:/usr/local/bin:/usr/bin:/bin" if self.bin.exists() else "/usr/local/bin:/usr/bin:/bin"
        return super().start(HOME=str(self.home), PATH=path, FAKE_CLI=way, **environment)

    def ring(self) -> None:
        """Touch the doorbell."""
        (self.directory / "doorbell").touch()

    def say(self, kind: str, **data: Any) -> int:
        """The user says something, and the doorbell rings."""
        seq = self.log.say(kind, **data)
        self.ring()
        return seq

    def confirm_all(self, result: str = "allow", **more: Any) -> None:
        """Answer everything that is asked now."""
        for event_id in self.log.asked():
            self.log.confirm(event_id, result, **more)
        self.ring()

    def message_and_ring(self, text: str) -> int:
        """The user says something, and the doorbell rings."""
        seq = self.log.message(text)
        self.ring()
        return seq

    def without_sdk(self) -> Path:
        """A directory for PYTHONPATH that hides the Agent SDK from find_spec."""
        hiding = self.directory / "hiding"
        hiding.mkdir()
        (hiding / "sitecustomize.py").write_text(HIDES)
        return hiding

    def texts(self) -> list[str]:
        """What Claude said, in the order of the log."""
        return [block["text"] for data in self.log.of("agent.message") for block in data["content"]]

    def errors(self) -> list[dict[str, Any]]:
        """The session's errors."""
        return [data["error"] for data in self.log.of("session.error")]

    def watchdogs(self) -> list[str]:
        """The names of the watchdogs that have bitten."""
        return [error["watchdog"] for error in self.errors() if "watchdog" in error]

    def status(self) -> str:
        """How the run ended."""
        return str(self.log.status)

    def result(self) -> dict[str, Any]:
        """The run's result."""
        return dict((self.log.finished or {}).get("result") or {})

    def told(self) -> str:
        """The runner's stderr, for a test that fails."""
        return (self.directory / "runner.err").read_text()

    def ids(self) -> list[str]:
        """The ids of all events that have one."""
        return [event["data"]["id"] for event in self.log.events if "id" in event["data"]]

    def raw(self) -> str:
        """Everything that the log was told."""
        return json.dumps([self.log.events, self.log.finished, self.log.previews])
