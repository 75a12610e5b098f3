"""The local E2B server: E2B's control API, and envd's and the previews' addresses, all on one port.

A request is told apart by what it carries: a preview's host name, the headers or path of envd; all else is control.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from connectrpc.request import Headers as RPCHeaders
from e2b.envd.filesystem.filesystem_connect import FilesystemASGIApplication
from e2b.envd.process.process_connect import ProcessASGIApplication
from fastapi import FastAPI
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from functions import bundle
from local.bubblewrap import BubblewrapMissingError, bwrap_path
from local.e2b import envd_http, jail, templates
from local.e2b.control import add_control
from local.e2b.envd_files_rpc import FilesystemService
from local.e2b.envd_rpc import ProcessService
from local.e2b.limits import Limits
from local.e2b.preview import Preview
from local.e2b.sandbox import House, Sandbox
from local.e2b.sandboxes import NotFoundError, Sandboxes

log = logging.getLogger(__name__)

ENVD_PORT = 49983
PREVIEW_HOST = re.compile(r"(\d{1,5})-([0-9a-z]+)\.")
RPC_PATHS = ("/process.Process/", "/filesystem.Filesystem/")
ENVD_PATHS = ("/files", "/health", "/metrics", "/envs")
MEBIBYTE = 1024 * 1024


class E2BSettings(BaseSettings):
    """Settings of the local E2B server, from the environment."""

    model_config = SettingsConfigDict(env_prefix="LOCAL_", extra="ignore", populate_by_name=True)
    e2b_api_key: str
    e2b_url: str
    sandbox_root: Path
    sandbox_isolation: Literal["bubblewrap", "none"] = Field("bubblewrap", validation_alias="SANDBOX_ISOLATION")
    sandbox_memory_mb: int = 1024
    sandbox_processes: int = 512
    sandbox_limit: int = 100
    # Template names that exist, separated by commas; empty accepts any.
    sandbox_templates: str = ""

    @property
    def domain(self) -> str:
        """What previews' host names end with: `localhost:PORT`."""
        return f"localhost:{urlsplit(self.e2b_url).port or 80}"


def create_app(settings: E2BSettings | None = None) -> ASGIApp:
    """The server as an ASGI app. Ends the program, with a message, where sandboxes cannot be isolated."""
    settings = settings or E2BSettings()
    isolated = settings.sandbox_isolation == "bubblewrap"
    if isolated:
        _check_bubblewrap()
    else:
        log.warning("SANDBOX_ISOLATION=none: commands run on this machine as you, with its files and its network")
    root = _clean_root(settings.sandbox_root)
    house = House(root, _limits(settings), jail.prepare(root), isolated, _prepared(root, isolated))
    sandboxes = Sandboxes(house, settings.sandbox_limit)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await sandboxes.close()

    control = FastAPI(title="Local E2B", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    add_control(control, sandboxes, settings.e2b_api_key, settings.domain, _names(settings))
    return Server(sandboxes, control)


class Server:
    """Sends each request where it belongs."""

    def __init__(self, sandboxes: Sandboxes, control: ASGIApp) -> None:
        self._sandboxes = sandboxes
        self._control = control
        self._preview = Preview(sandboxes)
        self._process = ProcessASGIApplication(ProcessService(self._of_request))
        self._filesystem = FilesystemASGIApplication(FilesystemService(self._of_request))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI app."""
        if scope["type"] == "lifespan":
            await self._control(scope, receive, send)
            return
        headers = Headers(scope=scope)
        preview = PREVIEW_HOST.match(headers.get("host", ""))
        sandbox_id = headers.get("e2b-sandbox-id") or (preview.group(2) if preview else None)
        port = int(preview.group(1)) if preview else int(headers.get("e2b-sandbox-port", ENVD_PORT))
        if sandbox_id is not None and port != ENVD_PORT:
            await self._preview.serve(sandbox_id, port, scope, receive, send)
        elif scope["type"] == "http" and (sandbox_id is not None or scope["path"] in ENVD_PATHS):
            await self._envd(sandbox_id, scope, receive, send)
        else:
            await self._control(scope, receive, send)

    async def _envd(self, sandbox_id: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            sandbox = await self._addressed(sandbox_id, request)
        except NotFoundError:
            gone = {"sandboxId": sandbox_id, "message": "The sandbox was not found", "code": 502}
            await JSONResponse(gone, status_code=502)(scope, receive, send)
            return
        if sandbox is None:
            refusal = envd_http.failure(401, "unauthorized: the access token or the signature is wrong")
            await refusal(scope, receive, send)
        elif scope["path"].startswith(RPC_PATHS[0]):
            await self._process(_named(scope, sandbox), receive, send)
        elif scope["path"].startswith(RPC_PATHS[1]):
            await self._filesystem(_named(scope, sandbox), receive, send)
        else:
            response = await envd_http.answer(sandbox, request)
            await response(scope, receive, send)

    async def _addressed(self, sandbox_id: str | None, request: Request) -> Sandbox | None:
        """The sandbox that is meant, None when the request may not have it. Raises NotFoundError."""
        query = dict(parse_qsl(request.url.query))
        if sandbox_id is None:
            # A signed URL names no sandbox; the signature fits only one.
            signed = [s for s in self._sandboxes.living() if envd_http.is_signed(s, request.method, query)]
            return await self._sandboxes.awake(signed[0].id) if signed else None
        sandbox = await self._sandboxes.awake(sandbox_id)
        token = request.headers.get("x-access-token", "")
        known = hmac.compare_digest(token.encode(), sandbox.token.encode())
        signed_file = request.url.path == "/files" and envd_http.is_signed(sandbox, request.method, query)
        return sandbox if known or signed_file or request.url.path == "/health" else None

    def _of_request(self, headers: RPCHeaders) -> Sandbox:
        return self._sandboxes.find(headers["e2b-sandbox-id"])


def _named(scope: Scope, sandbox: Sandbox) -> Scope:
    """The request with the header that names its sandbox, which one by host name lacks."""
    others = [(k, v) for k, v in scope["headers"] if k != b"e2b-sandbox-id"]
    return {**scope, "headers": [*others, (b"e2b-sandbox-id", sandbox.id.encode())]}


def _check_bubblewrap() -> None:
    try:
        bwrap_path()
        jail.probe()
    except BubblewrapMissingError as error:
        raise SystemExit(f"{error}; or run without isolation: SANDBOX_ISOLATION=none") from error


def _clean_root(root: Path) -> Path:
    """The directory for sandboxes, without what a killed server left in it."""
    root.mkdir(parents=True, exist_ok=True)
    for left in root.iterdir():
        if left.is_dir() and re.fullmatch(r"[0-9a-f]{20}", left.name):
            jail.remove_tree(left)
    return root


def _limits(settings: E2BSettings) -> Limits:
    return Limits(settings.sandbox_memory_mb * MEBIBYTE, settings.sandbox_processes)


def _prepared(root: Path, isolated: bool) -> dict[str, templates.Template]:
    try:
        if not isolated:
            return templates.prepare_unisolated(root / "templates")
        return templates.prepare(root / "templates", bundle.build(), jail.python_prefix())
    except templates.TemplateError as error:
        raise SystemExit(str(error)) from error


def _names(settings: E2BSettings) -> set[str]:
    return {name.strip() for name in settings.sandbox_templates.split(",") if name.strip()}
