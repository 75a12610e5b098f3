"""The whole product on one machine: Postgres, Supabase, E2B, models and endpoints, each a process on a free port.

Every listening socket is bound here before the first process starts, so that all addresses are known from the
beginning. Each process is ended by its id; if this one is killed, the kernel ends them.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from local.database import prepare
from local.postgres import Postgres
from local.supabase.keys import new_signing_key
from local.web import Web

PROJECT = Path(__file__).resolve().parent.parent
READY_SECONDS = 60.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.02
# Linux gives those from 32768 on to whoever asks for any.
UNASSIGNED_PORTS = range(15000, 32000)
PORT_TRIES = 100
# What sandboxes are made from: the local one of that name has what E2B's has.
TEMPLATE = "sandstream"
# The planner that scripts speak for, and the model that embeds, where no account does either.
PLANNER = "scripted-planner"
EMBEDDINGS = "multilingual-e5-small"
# What each of them has, and is charged for.
SANDBOX_MEMORY_MIB = 1024
# What a part may see of this process's environment; the rest is nobody's business but the user's.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "COVERAGE_PROCESS_START")


class StackError(RuntimeError):
    """A part did not come up; the message ends with the end of its log."""


@dataclass(frozen=True)
class Keys:
    """The deployment's secrets, made anew for each stack."""

    signing_key: str
    jwt_secret: str
    publishable_key: str
    secret_key: str
    e2b_api_key: str
    model_key: str

    @classmethod
    def generate(cls) -> "Keys":
        """Random ones."""
        return cls(
            signing_key=json.dumps(new_signing_key()),
            jwt_secret=secrets.token_hex(32),
            publishable_key=f"sb_publishable_{secrets.token_urlsafe(24)}",
            secret_key=f"sb_secret_{secrets.token_urlsafe(24)}",
            e2b_api_key=f"e2b_{secrets.token_hex(20)}",
            model_key=f"sk-ant-local-not-a-real-key-{secrets.token_hex(16)}",
        )


@dataclass(frozen=True)
class Addresses:
    """What a script needs to use the stack."""

    api_url: str
    supabase_url: str
    publishable_key: str
    secret_key: str
    e2b_api_url: str
    e2b_api_key: str
    models_url: str
    web_url: str


class Part:
    """One process of the stack, and the socket that it serves, which outlives it."""

    def __init__(self, name: str, factory: str, logs: Path) -> None:
        self.name = name
        self.socket = listening()
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self._factory = factory
        self._log = logs / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's id. Raises StackError when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise StackError(f"{self.name} is not running: {self.log_tail()}")
        return self._process.pid

    def start(self, environment: Mapping[str, str]) -> None:
        """Starts it; requests may be sent at once."""
        fd = self.socket.fileno()
        command = [sys.executable, "-m", "local.part", self._factory, str(fd), str(os.getpid())]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 our own interpreter and module
                command, cwd=PROJECT, env=dict(environment), pass_fds=[fd], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def wait_until_ready(self, path: str) -> None:
        """Returns once `path` answers. Raises StackError when the process ends or stays silent."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self.pid:
            try:
                httpx.get(f"{self.url}{path}", timeout=READY_SECONDS)
            except httpx.TransportError:
                time.sleep(POLL_SECONDS)
            else:
                return
        raise StackError(f"{self.name} does not answer: {self.log_tail()}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends it, with SIGKILL in the end; returns when it is gone."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def log_tail(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-3000:] if self._log.exists() else ""


class Stack:
    """A running stack. Made by `running`."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self.root = root
        self.keys = Keys.generate()
        logs = root / "logs"
        logs.mkdir()
        self._environment = environment
        self._isolation = environment.get("SANDBOX_ISOLATION", "bubblewrap")
        self.model_scripts = Path(environment.get("LOCAL_MODEL_SCRIPTS") or root / "model_scripts").absolute()
        self.model_scripts.mkdir(exist_ok=True)
        self.postgres = Postgres(root / "postgres", free_port())
        self.supabase = Part("supabase", "local.supabase.app:create_app", logs)
        self.e2b = Part("e2b", "local.e2b.app:create_app", logs)
        self.models = Part("models", "local.models.app:create_app", logs)
        self.api = Part("api", "local.api:create_app", logs)
        self.web = Web(listening())

    @property
    def is_isolated(self) -> bool:
        """Whether commands run in a sandbox, or, as was asked for, on this machine."""
        return self._isolation != "none"

    @property
    def addresses(self) -> Addresses:
        """Where everything is."""
        return Addresses(
            api_url=self.api.url,
            supabase_url=self.supabase.url,
            publishable_key=self.keys.publishable_key,
            secret_key=self.keys.secret_key,
            e2b_api_url=self.e2b.url,
            e2b_api_key=self.keys.e2b_api_key,
            models_url=self.models.url,
            web_url=self.web.url,
        )

    def start(self) -> None:
        """Starts the parts side by side; returns when all of them answer. Raises StackError, PostgresError."""
        self.web.start()
        self.e2b.start(self.e2b_environment())
        self.models.start(self.models_environment())
        self.api.start(self.api_environment())
        self.postgres.start()
        prepare(self.postgres.dsn(), PROJECT / "supabase")
        self.supabase.start(self.supabase_environment())
        self.supabase.wait_until_ready("/auth/v1/health")
        self.e2b.wait_until_ready("/health")
        self.models.wait_until_ready("/healthz")
        self.api.wait_until_ready("/healthz")

    def stop(self) -> None:
        """Ends everything, sandboxes first, so that none of them is left to write."""
        for part in (self.e2b, self.api, self.models, self.supabase):
            part.stop()
            part.socket.close()
        self.web.stop()
        self.postgres.stop()

    def script_model(self, name: str, *scripts: Mapping[str, object]) -> None:
        """Scripts that the model follows from now on, until `name` is written again."""
        written = self.model_scripts / f".{name}"
        written.write_text(json.dumps(scripts))
        # Whole or not at all: the models part may be reading.
        written.replace(self.model_scripts / f"{name}.json")

    def supabase_environment(self) -> dict[str, str]:
        """The settings of the Supabase part."""
        return {
            **self._base(),
            "LOCAL_DATABASE_URL": self.postgres.dsn(),
            "LOCAL_SUPABASE_URL": self.supabase.url,
            "LOCAL_SIGNING_KEY": self.keys.signing_key,
            "LOCAL_JWT_SECRET": self.keys.jwt_secret,
            "LOCAL_PUBLISHABLE_KEY": self.keys.publishable_key,
            "LOCAL_SECRET_KEY": self.keys.secret_key,
        }

    def e2b_environment(self) -> dict[str, str]:
        """The settings of the E2B part."""
        return {
            **self._base(),
            "LOCAL_E2B_API_KEY": self.keys.e2b_api_key,
            "LOCAL_E2B_URL": self.e2b.url,
            "LOCAL_SANDBOX_ROOT": str(self.root / "sandboxes"),
            "LOCAL_SANDBOX_TEMPLATES": f"base,{TEMPLATE}",
            "LOCAL_SANDBOX_MEMORY_MB": str(SANDBOX_MEMORY_MIB),
            "SANDBOX_ISOLATION": self._isolation,
        }

    def models_environment(self) -> dict[str, str]:
        """The settings of the models part: with the operator's own key it asks the real API, and scripts nothing."""
        given = {name: self._environment.get(name, "") for name in UPSTREAM}
        return {
            **self._base(),
            "LOCAL_MODEL_KEY": self.keys.model_key,
            "LOCAL_MODEL_SCRIPTS": str(self.model_scripts),
            "LOCAL_MODEL_WEB_URL": self.web.url,
            **{UPSTREAM[name]: value for name, value in given.items() if value},
        }

    def api_environment(self) -> dict[str, str]:
        """The settings of the endpoints: the ones that a deployment has, with this stack's addresses."""
        return {
            **self._base(),
            "SANDSTREAM_URL": self.api.url,
            "SUPABASE_URL": self.supabase.url,
            "SUPABASE_PUBLISHABLE_KEY": self.keys.publishable_key,
            "SUPABASE_SECRET_KEY": self.keys.secret_key,
            "RUN_TOKEN_KEY": self.keys.signing_key,
            "E2B_API_KEY": self.keys.e2b_api_key,
            "E2B_API_URL": self.e2b.url,
            "E2B_SANDBOX_URL": self.e2b.url,
            "ANTHROPIC_BASE_URL": self.models.url,
            "ANTHROPIC_API_KEY": self.keys.model_key,
            "OPENAI_BASE_URL": f"{self.models.url}/v1",
            "OPENAI_API_KEY": self.keys.model_key,
            **self._research_models(),
            "E2B_TEMPLATE": TEMPLATE,
            "SANDBOX_MEMORY_MIB": str(SANDBOX_MEMORY_MIB),
            # Without isolation there is no gate either, so nothing could add the run token on the way.
            **({} if self.is_isolated else {"CREDENTIALS": "env"}),
            **{name: value for name, value in self._environment.items() if name in OVERRIDES},
            "EGRESS_ALLOW": ",".join(filter(None, (self._environment.get("EGRESS_ALLOW"), self.web.place))),
        }

    def _research_models(self) -> dict[str, str]:
        """Those of the models part; an operator with an account has the ones that a deployment has."""
        if self._environment.get("OPENAI_API_KEY"):
            return {}
        return {"RESEARCH_MODEL": PLANNER, "EMBEDDING_MODEL": EMBEDDINGS}

    def _base(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name in PASSED_ON}


# Settings of the endpoints that may be tried out on the local stack by setting them.
OVERRIDES = (
    "CONFIRMATION_SECONDS",
    "CREDENTIALS",
    "DEFAULT_TIMEOUT_MS",
    "E2B_TEMPLATE",
    "E2B_WEBHOOK_SECRET",
    "EMBEDDING_MODEL",
    "EMBEDDING_THRESHOLD",
    "EXIT_SECONDS",
    "IDLE_SANDBOX_SECONDS",
    "LOG_LEVEL",
    "MAX_CONCURRENT_SANDBOXES",
    "MAX_MONTHLY_COST_PER_USER",
    "MAX_SANDBOX_DURATION",
    "PACKAGE_HOSTS",
    "RATE_LIMIT_PER_MINUTE",
    "RESEARCH_MODEL",
    "SANDBOX_MARGIN_SECONDS",
    "SANDBOX_MEMORY_MIB",
    "SANDBOX_VCPUS",
    "SILENT_SECONDS",
    "SWEEP_SECONDS",
    "TURN_ESTIMATE_USD",
    "TURN_SECONDS",
)
# The operator's accounts with models' APIs and the way there. Only the models part sees them, under these names.
UPSTREAM = {
    "ANTHROPIC_API_KEY": "LOCAL_MODEL_UPSTREAM_KEY",
    "ANTHROPIC_BASE_URL": "LOCAL_MODEL_UPSTREAM_URL",
    "OPENAI_API_KEY": "LOCAL_MODEL_OPENAI_KEY",
    "OPENAI_BASE_URL": "LOCAL_MODEL_OPENAI_URL",
    "HTTPS_PROXY": "HTTPS_PROXY",
    "SSL_CERT_FILE": "SSL_CERT_FILE",
}


@contextmanager
def running(environment: Mapping[str, str]) -> Iterator[Stack]:
    """A stack in a temporary directory; both are gone afterwards. Raises StackError, PostgresError."""
    root = Path(tempfile.mkdtemp(prefix="sandstream-"))
    with ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, root, ignore_errors=True)
        stack = Stack(root, environment)
        cleanup.callback(stack.stop)
        stack.start()
        yield stack


def demo_user(addresses: Addresses) -> str:
    """Signs a fresh user up and returns their token. Raises StackError when Auth refuses."""
    credentials = {"email": f"demo-{secrets.token_hex(4)}@sandstream.test", "password": secrets.token_urlsafe(16)}
    answer = httpx.post(
        f"{addresses.supabase_url}/auth/v1/signup", json=credentials, headers={"apikey": addresses.publishable_key}
    )
    if answer.status_code != httpx.codes.OK:
        raise StackError(f"sign-up failed: {answer.status_code} {answer.text}")
    return str(answer.json()["access_token"])


def described(addresses: Addresses, user_token: str) -> str:
    """One line of JSON, for scripts."""
    return json.dumps({**asdict(addresses), "user_token": user_token})


def listening() -> socket.socket:
    """A socket that listens on a free port of loopback."""
    found = socket.create_server(("127.0.0.1", 0), backlog=1024)
    # Accepted sockets inherit it; without it each piece of a streamed answer waits for a delayed ACK.
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.set_inheritable(True)
    return found


def free_port() -> int:
    """A port that was free a moment ago, for a server that binds it itself. Raises OSError when none is found.

    Below those that the kernel gives to connections and to servers that ask for any port: nobody takes it by chance.
    """
    for _ in range(PORT_TRIES):
        port = secrets.choice(UNASSIGNED_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise OSError(f"no free port between {UNASSIGNED_PORTS.start} and {UNASSIGNED_PORTS.stop}")
