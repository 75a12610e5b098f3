"""The CLI's command line, settings and environment: all that it learns from outside the conversation.

Nothing of it comes from the workspace: setting sources are none, the MCP configuration is strict, hooks are off, and
the model's address and key are the job's.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil

from . import sdk
from .stdin import FEED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...job import Job
    from .agent import Agent

MICROUSD = 1_000_000
# Variables of the sandbox that would change where the CLI calls, as whom, or what it runs at start.
_FOREIGN = ("ANTHROPIC_", "CLAUDE", "SANDSTREAM_", "MCP_", "BUN_", "NODE_", "AWS_", "GOOGLE_", "OTEL_", "DISABLE_")
_FIXED = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "CLAUDE_CODE_DISABLE_BUNDLED_SKILLS": "1",
    "CLAUDE_CODE_DISABLE_CLAUDE_MDS": "1",
    "CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL": "1",
    "CLAUDE_CODE_SDK_READS_SESSION_STATE": "1",
    "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
    "DISABLE_AUTOUPDATER": "1",
    "ENABLE_TOOL_SEARCH": "false",
    "IS_SANDBOX": "1",
}


class Invocation:
    """One start of the CLI: `command` for bash, and its whole `environment`."""

    def __init__(self, command: str, environment: dict[str, str]) -> None:
        self.command = command
        self.environment = environment


def find() -> str | None:
    """The CLI: `claude` on PATH, or the one that the Agent SDK carries."""
    found = shutil.which("claude")
    if found:
        return found
    spec = sdk.find()
    bundled = os.path.join(os.path.dirname(spec.origin), "_bundled", "claude") if spec and spec.origin else ""
    return bundled if os.path.exists(bundled) else None


def config_directory() -> str:
    """Where the CLI keeps what it remembers; outside of the workspace, the same for every run of a sandbox."""
    return os.path.expanduser("~/.sandstream/claude")


def invocation(
    job: Job, agent: Agent, cli: str, directory: str, resumes: bool, budget_microusd: int | None = None
) -> Invocation:
    """How to start the CLI with `directory` for its files; the budget is this process's own. Raise OSError."""
    arguments = [cli, *_arguments(agent, directory), f"--{'resume' if resumes else 'session-id'}={job.session_id}"]
    if budget_microusd is not None:
        arguments += ["--max-budget-usd", f"{budget_microusd / MICROUSD:.6f}"]
    command = FEED.format(directory=shlex.quote(directory), command=shlex.join(arguments))
    return Invocation(command, _environment(job))


def _arguments(agent: Agent, directory: str) -> list[str]:
    settings = _file(directory, "settings.json", json.dumps(agent.settings()))
    servers = _file(directory, "mcp.json", json.dumps(agent.mcp_config()))
    return [
        *("--output-format", "stream-json", "--verbose", "--input-format", "stream-json"),
        *("--permission-prompt-tool", "stdio", "--include-partial-messages", "--session-mirror"),
        *("--setting-sources=", "--strict-mcp-config", "--disable-slash-commands"),
        *("--model", agent.model, "--tools", ",".join(agent.offered())),
        *("--settings", settings, "--mcp-config", servers),
        *_optional(agent, directory),
    ]


def _optional(agent: Agent, directory: str) -> list[str]:
    arguments = []
    if agent.effort:
        arguments += ["--effort", agent.effort]
    if agent.system:
        arguments += ["--append-system-prompt-file", _file(directory, "system.txt", agent.system)]
    return arguments


def _environment(job: Job) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    limits: dict[str, Any] = job.input.get("limits") or {}
    patience = int(float(limits.get("confirmation_seconds", 3600)) + 60) * 1000
    return {
        **kept,
        **_FIXED,
        "ANTHROPIC_BASE_URL": str(job.input["model_url"]),
        "ANTHROPIC_API_KEY": job.model_key,
        "CLAUDE_CONFIG_DIR": config_directory(),
        "MCP_TOOL_TIMEOUT": str(patience),
    }


def _file(directory: str, name: str, text: str) -> str:
    """A command line is limited in size, and every process may read it."""
    path = os.path.join(directory, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path
