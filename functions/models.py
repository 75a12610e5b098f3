"""The wire: what a body may hold, and what an answer holds. Parsed here once, trusted inside."""

import hashlib
import json
import re
from datetime import datetime
from ipaddress import AddressValueError, IPv4Address
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, computed_field

from sandbox_scripts.drivers.commands import ATTEMPTS

MAX_COMMANDS = 200
MAX_COMMAND_BYTES = 32 * 1024
MAX_COMMAND_SECONDS = 3600
DEFAULT_COMMAND_SECONDS = 300
# What a run may take beside its commands: the runner's start, the pauses between attempts, the last batch.
OVERHEAD_SECONDS = 30

MAX_METADATA_BYTES = 16 * 1024
MICROUSD_PER_CENT = 10_000

HOST = re.compile(r"^(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$")


def without_nul(text: str) -> str:
    """Postgres text holds no NUL, and no shell command needs one; a lone surrogate is no Unicode text."""
    if "\x00" in text:
        raise ValueError("must not hold a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode") from None
    return text


def readable(value: Any) -> None:
    """Raises ValueError when a JSON value holds text that Postgres does not take, at any depth."""
    if isinstance(value, str):
        without_nul(value)
    if isinstance(value, dict):
        value = [*value, *value.values()]
    for item in value if isinstance(value, list | tuple) else ():
        readable(item)


def command_size(text: str) -> str:
    """The limit is one of bytes, since that is what a shell is given."""
    if len(text.encode()) > MAX_COMMAND_BYTES:
        raise ValueError(f"must have at most {MAX_COMMAND_BYTES} bytes")
    return text


def host(entry: str) -> str:
    """A public host name, `*.name` or IPv4 address, each with or without a port.

    Loopback, private and link-local places are the operator's to open, by EGRESS_ALLOW: a request that could name them
    would reach what stands beside the sandboxes.
    """
    name, colon, port = entry.lower().partition(":")
    if colon and not (port.isdecimal() and port.isascii() and 1 <= int(port) <= 65535):
        raise ValueError("must have a port between 1 and 65535")
    if len(name) > 253 or not HOST.match(name):
        raise ValueError("must be a host, with or without a port")
    if name.endswith("localhost") or not is_public(name):
        raise ValueError("must be a public host")
    return f"{name}{colon}{port}"


def is_public(name: str) -> bool:
    """False for an address that is not global, and for what a resolver takes for one: `127.1`, `2130706433`."""
    try:
        return IPv4Address(name).is_global
    except AddressValueError:
        return re.fullmatch(r"\d+|0x[0-9a-f]+", name.rpartition(".")[2]) is None


def metadata_size(metadata: dict[str, str]) -> dict[str, str]:
    """The limit is that of the JSON which is stored."""
    if len(json.dumps(metadata, ensure_ascii=False).encode()) > MAX_METADATA_BYTES:
        raise ValueError(f"must have at most {MAX_METADATA_BYTES} bytes as JSON")
    return metadata


Text = Annotated[str, AfterValidator(without_nul)]
Title = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(without_nul)]
Label = Annotated[str, Field(max_length=512), AfterValidator(without_nul)]
LabelName = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(without_nul)]
Host = Annotated[str, AfterValidator(without_nul), AfterValidator(host)]


class Request(BaseModel):
    """A body: nothing unknown, nothing coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Money(Request):
    """An amount in cents, as a string of digits."""

    amount: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,11}$")]
    currency: Literal["USD"]


class Budget(Request):
    """What a session, or a run, may cost at list prices."""

    type: Literal["limit"]
    max_list_cost: Money

    @property
    def microusd(self) -> int:
        """In millionths of a dollar."""
        return int(self.max_list_cost.amount) * MICROUSD_PER_CENT


class Command(Request):
    """One shell command of a plan. `timeout` in seconds, for each attempt."""

    command: Annotated[str, Field(min_length=1), AfterValidator(without_nul), AfterValidator(command_size)]
    timeout: Annotated[int, Field(ge=1, le=MAX_COMMAND_SECONDS)] = DEFAULT_COMMAND_SECONDS
    retryable: bool = False


class RunRequest(Request):
    """A plan of commands. `timeout` in seconds, for the whole run; by default the sum of its commands' own."""

    commands: Annotated[tuple[Command, ...], Field(min_length=1, max_length=MAX_COMMANDS, strict=False)]
    session_id: Annotated[UUID | None, Field(strict=False)] = None
    title: Title | None = None
    metadata: Annotated[dict[LabelName, Label], Field(max_length=16), AfterValidator(metadata_size)] = {}
    egress: Annotated[tuple[Host, ...], Field(max_length=50, strict=False)] = ()
    timeout: Annotated[int | None, Field(ge=1)] = None
    budget: Budget | None = None

    def limit_seconds(self, longest: int) -> int:
        """How long the run may last; at most `longest` where nobody named it."""
        tries = [command.timeout * (ATTEMPTS if command.retryable else 1) for command in self.commands]
        return self.timeout or min(OVERHEAD_SECONDS + sum(tries), longest)

    @property
    def is_cut(self) -> bool:
        """Whether a shorter limit may be put in place of this one: nobody named it."""
        return self.timeout is None

    @property
    def hash(self) -> str:
        """What makes two submits the same. A field that came later counts only where it is used: a key that was
        claimed before an update is still good after it."""
        later = {"budget"} if self.budget is None else set()
        return request_hash("POST /v1/runs", self.model_dump(mode="json", exclude=later))

    def input(self) -> dict[str, Any]:
        """What the driver is given, and what the run's row keeps: enough to start its runner again."""
        return {"commands": [command.model_dump() for command in self.commands], "egress": list(self.egress)}


class Answer(BaseModel):
    """An answer's JSON, read from a row: columns it does not name are left out."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class AcceptedRun(Answer):
    """A run as it was admitted: the same for every repeat of its request."""

    type: Literal["run"] = "run"
    id: UUID
    session_id: UUID
    kind: str
    status: Literal["launching"] = "launching"
    limit_seconds: int
    created_at: datetime


class Run(Answer):
    """A run as it stands."""

    type: Literal["run"] = "run"
    id: UUID
    session_id: UUID
    kind: str
    status: str
    limit_seconds: int
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    cancel_requested_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class Session(Answer):
    """A session as it stands. `last_seq` is the length of its log."""

    type: Literal["session"] = "session"
    id: UUID
    title: str | None
    status: str
    last_seq: int
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime


Item = TypeVar("Item")


class Page(Answer, Generic[Item]):
    """Part of a list. `next_cursor` goes into `after` or `page` for the next part; it is null at the end."""

    data: list[Item]
    has_more: bool
    next_cursor: str | None

    @computed_field
    def next_page(self) -> str | None:
        """`next_cursor` by the name that the official SDK follows."""
        return self.next_cursor


class ClientConfig(Answer):
    """What a client needs to know to subscribe by itself. Nothing here is secret."""

    supabase_url: str
    publishable_key: str


def request_hash(route: str, body: object) -> str:
    """What makes two requests the same: the route and the parsed body, not its white space or key order."""
    canonical = json.dumps([route, body], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def claim(route: str, body: object, key: str | None) -> dict[str, str | None]:
    """What a POST claims its key with, in the words of the SQL functions."""
    return {"request_hash": request_hash(route, body), "idempotency_key": key}
