"""A models part as a process of its own, what scripts it, and the real CLI in a directory of its own."""

import contextlib
import json
import os
import secrets
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import claude_agent_sdk
import httpx
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from local.stack import PASSED_ON, Part

CLI = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
CLI_SECONDS = 60


@dataclass
class Models:
    """The part, its key and the directory of its scripts."""

    part: Part
    key: str
    scripts: Path

    @property
    def url(self) -> str:
        return self.part.url

    def follow(self, *turns: dict[str, Any]) -> str:
        """A new script with these turns; the prompt that asks for it."""
        prompt = f"prompt {secrets.token_hex(8)}"
        (self.scripts / f"{prompt}.json").write_text(json.dumps({"when": {"prompt": prompt}, "turns": turns}))
        return prompt

    def client(self, retries: int = 0, **wishes: Any) -> AsyncAnthropic:
        """Anthropic's SDK, which by default does not retry."""
        options = {"base_url": self.url, "api_key": self.key, "max_retries": retries, "timeout": 30, **wishes}
        return AsyncAnthropic(**options)

    def openai(self, retries: int = 0, **wishes: Any) -> AsyncOpenAI:
        """OpenAI's SDK, likewise."""
        options = {"base_url": f"{self.url}/v1", "api_key": self.key, "max_retries": retries, "timeout": 30, **wishes}
        return AsyncOpenAI(**options)

    def http(self) -> httpx.AsyncClient:
        """The wire itself."""
        return httpx.AsyncClient(base_url=self.url, headers={"x-api-key": self.key}, timeout=30)

    async def ledger(self, prompt: str) -> list[dict[str, Any]]:
        """What was noted for one prompt."""
        async with self.http() as http:
            entries: list[dict[str, Any]] = (await http.get("/scripted/ledger")).json()
        return [entry for entry in entries if entry["prompt"] == prompt]


@contextlib.contextmanager
def models_at(root: Path, **environment: str) -> Iterator[Models]:
    """A models part on a free port, gone afterwards."""
    scripts = root / "scripts"
    scripts.mkdir(parents=True)
    made = Models(Part("models", "local.models.app:create_app", root), f"key-{secrets.token_hex(8)}", scripts)
    base = {name: value for name, value in os.environ.items() if name in PASSED_ON}
    settings = {"LOCAL_MODEL_KEY": made.key, "LOCAL_MODEL_SCRIPTS": str(scripts)}
    made.part.start({**base, **settings, **environment})
    try:
        made.part.wait_until_ready("/healthz")
        yield made
    finally:
        made.part.stop()
        made.part.socket.close()


def said(text: str) -> dict[str, Any]:
    """A text block of a script."""
    return {"type": "text", "text": text}


def called(name: str, **input: Any) -> dict[str, Any]:
    """A tool call of a script."""
    return {"type": "tool_use", "name": name, "input": input}


def asking(*contents: Any) -> dict[str, Any]:
    """The arguments of a request: messages by turns of the user's and the assistant's."""
    roles = ("user", "assistant")
    messages = [{"role": roles[index % 2], "content": content} for index, content in enumerate(contents)]
    return {"model": "claude-sonnet-5", "max_tokens": 1000, "messages": messages}


def chatting(prompt: str, system: str = "You plan") -> dict[str, Any]:
    """The same for a chat completion, with a system prompt."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": prompt}]
    return {"model": "scripted-planner", "messages": messages}


@dataclass
class Cli:
    """The real CLI: one home and one working directory, one session."""

    models: Models
    root: Path
    session: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: bool = False

    @property
    def directory(self) -> Path:
        return self.root / "work"

    def ask(self, prompt: str) -> list[dict[str, Any]]:
        """One turn in a process of its own, resumed from the second on; the lines that it printed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        session = [f"--{'resume' if self.started else 'session-id'}={self.session}"]
        self.started = True
        done = subprocess.run(
            [str(CLI), "-p", prompt, "--output-format", "stream-json", "--verbose", "--setting-sources=",
             "--permission-mode", "bypassPermissions", "--model", "claude-sonnet-5", *session],
            cwd=self.directory, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True,
            timeout=CLI_SECONDS, check=True,
        )  # fmt: skip
        return [json.loads(line) for line in done.stdout.splitlines()]

    def environment(self) -> dict[str, str]:
        """Nothing of this process but its PATH."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "ANTHROPIC_BASE_URL": self.models.url,
            "ANTHROPIC_API_KEY": self.models.key,
            "CLAUDE_CONFIG_DIR": str(self.root / "config"),
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "IS_SANDBOX": "1",
        }


def texts(lines: list[dict[str, Any]]) -> list[str]:
    """What the assistant said in the CLI's lines."""
    blocks = [block for line in lines if line["type"] == "assistant" for block in line["message"]["content"]]
    return [block["text"] for block in blocks if block["type"] == "text"]
