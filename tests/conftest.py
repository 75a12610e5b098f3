"""What tests of every area share: one local stack per test process, and people who use it."""

import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import certifi
import httpx
import pytest
from hypothesis import settings

from local.stack import Stack, running
from sandstream.client import Sandstream

WEBHOOK_SECRET = "webhook-canary-not-a-real-secret"
CANARY_MODEL_KEY = "sk-ant-canary-not-a-real-key-0123456789"


def pytest_configure() -> None:
    """No example is too slow: on a loaded machine that would be an assertion of a time."""
    settings.register_profile("sandstream", deadline=None)
    settings.load_profile("sandstream")


# A worker takes whole modules, in this order and then by name: a long one at the end would keep the others waiting.
LONGEST_FIRST = (
    "tests/e2e/test_cli.py",
    "tests/sql/test_ledger_model.py",
    "tests/e2e/test_chat.py",
    "tests/runner/test_claude_watchdogs.py",
    "tests/runner/test_claude.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest modules first."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


@dataclass(frozen=True)
class Person:
    """A signed-up user of a stack: their token, and the endpoints and the tables as they see them."""

    stack: Stack
    token: str
    id: UUID

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def client(self) -> Sandstream:
        """The product's own client."""
        return Sandstream(self.stack.api.url, self.token)

    def endpoints(self) -> httpx.AsyncClient:
        """The endpoints, by plain HTTP."""
        return httpx.AsyncClient(base_url=self.stack.api.url, headers=self.headers, timeout=60)

    async def key(self, *scopes: str) -> dict[str, Any]:
        """A new API key of this user's, as it is answered."""
        async with self.endpoints() as http:
            answer = await http.post("/v1/keys", json={"name": "test", "scopes": scopes})
        assert answer.status_code == httpx.codes.CREATED, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def behind_key(self, *scopes: str) -> "Person":
        """The same user as a program that has an API key of theirs."""
        return replace(self, token=(await self.key(*scopes))["key"])

    def tables(self) -> httpx.AsyncClient:
        """Supabase's REST, as this user."""
        headers = {**self.headers, "apikey": self.stack.keys.publishable_key}
        return httpx.AsyncClient(base_url=f"{self.stack.supabase.url}/rest/v1", headers=headers, timeout=60)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> None:
    """A shell has what it runs in the background ignore Ctrl-C, and whatever we start would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each HTTP client reads all the authorities that it trusts, which takes longer than most tests; one will do."""
    first, end, _ = certifi.contents().partition("-----END CERTIFICATE-----\n")
    trusted = tmp_path_factory.mktemp("trusted") / "authority.pem"
    trusted.write_text(first + end)
    os.environ["SSL_CERT_FILE"] = str(trusted)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The whole product on this machine, from nothing, once per test process; a model key is in its environment.

    It sweeps only when a test does: several leave runs behind on purpose.
    """
    os.environ["ANTHROPIC_API_KEY"] = os.environ["OPENAI_API_KEY"] = CANARY_MODEL_KEY
    with running({"SWEEP_SECONDS": "0", "E2B_WEBHOOK_SECRET": WEBHOOK_SECRET}) as started:
        yield started


async def sign_up(stack: Stack) -> Person:
    """A fresh user."""
    credentials = {"email": f"{secrets.token_hex(6)}@people.test", "password": secrets.token_urlsafe(12)}
    async with httpx.AsyncClient(timeout=60) as http:
        answer = await http.post(
            f"{stack.supabase.url}/auth/v1/signup", json=credentials, headers={"apikey": stack.keys.publishable_key}
        )
    answer.raise_for_status()
    session: dict[str, Any] = answer.json()
    return Person(stack, session["access_token"], UUID(session["user"]["id"]))


@pytest.fixture
async def owner(stack: Stack) -> Person:
    """Who submits."""
    return await sign_up(stack)


@pytest.fixture
async def stranger(stack: Stack) -> Person:
    """Somebody else."""
    return await sign_up(stack)


@pytest.fixture
async def client(owner: Person) -> AsyncIterator[Sandstream]:
    """The owner's client."""
    async with owner.client() as made:
        yield made


@pytest.fixture
async def service(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Supabase's REST with the secret key: what the control plane sees."""
    key = stack.keys.secret_key
    headers = {"apikey": key, "Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=f"{stack.supabase.url}/rest/v1", headers=headers, timeout=60) as http:
        yield http
