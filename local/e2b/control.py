"""E2B's control API: create, connect, look at, pause and end sandboxes."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import psutil
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException

from local.e2b.boot import StartError
from local.e2b.egress import Network, Policy
from local.e2b.envd_client import EnvdError
from local.e2b.sandbox import IllegalMoveError, Order, Sandbox
from local.e2b.sandboxes import KeyReusedError, NotFoundError, Query, Sandboxes, TooManyError

ENVD_VERSION = "0.6.4"
CPUS = 2
MEBIBYTE = 1024 * 1024
DEFAULT_SECONDS = 300
MAX_SECONDS = 24 * 3600
MAX_PAGE = 100


class AutoResume(BaseModel):
    """Whether traffic wakes a paused sandbox."""

    enabled: bool = False


class NewSandbox(BaseModel):
    """The body of a create. What E2B has and we have not (mcp, iam, volumes) is ignored."""

    model_config = ConfigDict(extra="ignore")
    template: str = Field(alias="templateID", min_length=1, max_length=256)
    timeout: int = Field(DEFAULT_SECONDS, ge=0, le=MAX_SECONDS)
    metadata: dict[str, str] = Field(default_factory=dict)
    environment: dict[str, str] = Field(default_factory=dict, alias="envVars")
    auto_pause: bool = Field(default=False, alias="autoPause")
    auto_resume: AutoResume = Field(default_factory=AutoResume, alias="autoResume")
    allow_internet_access: bool | None = None
    network: Network = Field(default_factory=Network)

    def order(self) -> Order:
        """Raises ValueError for a network entry that is no host."""
        network = self.network
        if self.allow_internet_access is not None:
            network = network.model_copy(update={"allow_internet_access": self.allow_internet_access})
        Policy.of(network)
        return Order(
            template=self.template,
            metadata=self.metadata,
            environment=self.environment,
            network=network,
            timeout=self.timeout,
            pause_at_end=self.auto_pause,
            resume_on_traffic=self.auto_resume.enabled,
        )


class Timeout(BaseModel):
    """The body of a timeout or connect."""

    model_config = ConfigDict(extra="ignore")
    timeout: int = Field(DEFAULT_SECONDS, ge=0, le=MAX_SECONDS)


def add_control(app: FastAPI, sandboxes: Sandboxes, api_key: str, domain: str, templates: set[str]) -> None:
    """Give the app its routes, its key and its errors. An empty set of `templates` accepts any name."""
    control = Control(sandboxes, domain, templates)
    app.middleware("http")(_key_check(api_key))
    _add_errors(app)
    for version in ("", "/v2"):
        app.post(f"{version}/sandboxes", status_code=201)(control.create)
        app.get(f"{version}/sandboxes")(control.listing)
        app.post(f"{version}/sandboxes/{{sandbox_id}}/connect")(control.connect)
    app.get("/sandboxes/{sandbox_id}")(control.get)
    app.delete("/sandboxes/{sandbox_id}", status_code=204)(control.kill)
    app.post("/sandboxes/{sandbox_id}/timeout", status_code=204)(control.timeout)
    app.post("/sandboxes/{sandbox_id}/pause", status_code=204)(control.pause)
    app.post("/sandboxes/{sandbox_id}/resume", status_code=201)(control.connect)
    app.put("/sandboxes/{sandbox_id}/network", status_code=204)(control.network)
    app.get("/sandboxes/{sandbox_id}/metrics")(control.metrics)
    for action in ("snapshots", "fork"):
        app.post(f"/sandboxes/{{sandbox_id}}/{action}")(control.cannot)


class Control:
    """The endpoints."""

    def __init__(self, sandboxes: Sandboxes, domain: str, templates: set[str]) -> None:
        self._sandboxes = sandboxes
        self._domain = domain
        self._templates = templates
        self._measured: dict[str, tuple[float, float]] = {}

    async def create(self, request: Request) -> dict[str, Any]:
        """A running sandbox."""
        body = await request.body()
        asked = _parsed(NewSandbox, body)
        if self._templates and asked.template.partition(":")[0] not in self._templates:
            raise HTTPException(404, f"template '{asked.template}' not found")
        return self._access(await self._sandboxes.create(_order(asked), request.headers.get("idempotency-key"), body))

    async def connect(self, sandbox_id: str, request: Request) -> JSONResponse:
        """Resume a paused one (201), or leave a running one at least as long to live as asked (200)."""
        seconds = _parsed(Timeout, await request.body() or b"{}").timeout
        sandbox = self._sandboxes.find(sandbox_id)
        resumed = await self._sandboxes.wake(sandbox_id, seconds)
        return JSONResponse(self._access(sandbox), status_code=201 if resumed else 200)

    async def get(self, sandbox_id: str) -> dict[str, Any]:
        """Everything about one."""
        sandbox = self._sandboxes.find(sandbox_id)
        order = sandbox.order
        return self._listed(sandbox) | {
            "domain": self._domain,
            "envdAccessToken": sandbox.token,
            "allowInternetAccess": sandbox.network.allow_internet_access,
            "network": sandbox.network.wire(),
            "lifecycle": {
                "autoResume": order.resume_on_traffic,
                "onTimeout": "pause" if order.pause_at_end else "kill",
            },
        }

    async def listing(self, request: Request) -> JSONResponse:
        """One page; the next page's token is in a header."""
        page, token = self._sandboxes.page(_query(request))
        headers = {"x-next-token": token} if token is not None else {}
        return JSONResponse([self._listed(sandbox) for sandbox in page], headers=headers)

    async def kill(self, sandbox_id: str) -> None:
        """End it; answered when none of its processes lives."""
        await self._sandboxes.find(sandbox_id).kill()

    async def timeout(self, sandbox_id: str, request: Request) -> None:
        """Count its time anew. A paused one has none, and is not found, as at E2B."""
        seconds = _parsed(Timeout, await request.body()).timeout
        try:
            self._sandboxes.find(sandbox_id).set_timeout(seconds)
        except IllegalMoveError as error:
            raise NotFoundError(f"sandbox {sandbox_id} is not running") from error

    async def pause(self, sandbox_id: str) -> None:
        """Stop it where it is."""
        await self._sandboxes.find(sandbox_id).pause()

    async def network(self, sandbox_id: str, request: Request) -> None:
        """Replace what it may reach."""
        sandbox = self._sandboxes.find(sandbox_id)
        await sandbox.set_network(_parsed(Network, await request.body()))

    async def metrics(self, sandbox_id: str) -> list[dict[str, Any]]:
        """What it uses now: one measurement. CPU is the share since the last one, or since the start."""
        sandbox = self._sandboxes.find(sandbox_id)
        usage, now = sandbox.usage(), time.time()
        since, before = self._measured.get(sandbox_id, (sandbox.started_at.timestamp(), 0.0))
        self._measured = {s.id: self._measured[s.id] for s in self._sandboxes.living() if s.id in self._measured}
        self._measured[sandbox_id] = (now, usage.cpu_seconds)
        disk = psutil.disk_usage(str(sandbox.directory))
        measured = {
            "timestamp": datetime.fromtimestamp(now, UTC).isoformat(),
            "timestampUnix": int(now),
            "cpuCount": CPUS,
            "cpuUsedPct": round(100 * (usage.cpu_seconds - before) / max(now - since, 1e-3), 2),
            "memUsed": usage.memory,
            "memTotal": sandbox.house.limits.memory_bytes,
            "memCache": usage.cache,
            "diskUsed": disk.used,
            "diskTotal": disk.total,
        }
        return [measured]

    async def cannot(self, sandbox_id: str, request: Request) -> None:
        """What only a virtual machine can do."""
        self._sandboxes.find(sandbox_id)
        action = request.url.path.rpartition("/")[2]
        raise HTTPException(501, f"the local E2B server cannot do {action}: its sandboxes are no virtual machines")

    def _access(self, sandbox: Sandbox) -> dict[str, Any]:
        return {
            "templateID": sandbox.order.template,
            "sandboxID": sandbox.id,
            "clientID": "local",
            "envdVersion": ENVD_VERSION,
            "envdAccessToken": sandbox.token,
            "trafficAccessToken": None,
            "domain": self._domain,
        }

    def _listed(self, sandbox: Sandbox) -> dict[str, Any]:
        return {
            "templateID": sandbox.order.template,
            "sandboxID": sandbox.id,
            "clientID": "local",
            "startedAt": sandbox.started_at.isoformat(),
            "endAt": sandbox.ends_at.isoformat(),
            "cpuCount": CPUS,
            "memoryMB": sandbox.house.limits.memory_bytes // MEBIBYTE,
            "diskSizeMB": psutil.disk_usage(str(sandbox.house.root)).total // MEBIBYTE,
            "state": str(sandbox.state),
            "envdVersion": ENVD_VERSION,
            "metadata": sandbox.order.metadata,
        }


def _order(asked: NewSandbox) -> Order:
    try:
        return asked.order()
    except ValueError as error:
        raise HTTPException(400, f"network: {error}") from error


Model = TypeVar("Model", bound=BaseModel)


def _parsed(model: type[Model], body: bytes) -> Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        raise HTTPException(400, f"{place}: {first['msg']}") from error


def _query(request: Request) -> Query:
    asked = request.query_params
    try:
        after = datetime.fromisoformat(asked["startedAfter"]) if "startedAfter" in asked else None
        return Query(
            metadata=asked.get("metadata", ""),
            states=tuple(asked["state"].split(",")) if asked.get("state") else Query.states,
            started_after=after.astimezone(UTC) if after is not None else None,
            template=asked.get("template"),
            ascending=asked.get("order") == "asc",
            limit=min(max(int(asked.get("limit", MAX_PAGE)), 1), MAX_PAGE),
            token=asked.get("nextToken"),
        )
    except ValueError as error:
        raise HTTPException(400, str(error)) from error


Next = Callable[[Request], Awaitable[Response]]


def _key_check(api_key: str) -> Callable[[Request, Next], Awaitable[Response]]:
    async def check(request: Request, call_next: Next) -> Response:
        given = request.headers.get("x-api-key", "")
        if not hmac.compare_digest(given.encode(), api_key.encode()):
            return _error(401, "the API key is wrong or missing")
        return await call_next(request)

    return check


STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (NotFoundError, 404),
    (IllegalMoveError, 409),
    (KeyReusedError, 409),
    (TooManyError, 429),
    (StartError, 500),
    (EnvdError, 502),
    (ValueError, 400),
)


def _add_errors(app: FastAPI) -> None:
    for kind, status in STATUSES:

        async def told(_: Request, error: Exception, status: int = status) -> Response:
            return _error(status, str(error))

        app.exception_handler(kind)(told)

    async def http_error(_: Request, error: Exception) -> Response:
        known = error if isinstance(error, HTTPException) else HTTPException(500)
        return _error(known.status_code, known.detail)

    app.exception_handler(HTTPException)(http_error)
    app.exception_handler(RequestValidationError)(lambda _, error: _error(400, str(error)))


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"code": status, "message": message}, status_code=status)
