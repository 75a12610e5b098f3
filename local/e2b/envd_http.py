"""The plain HTTP part of envd: /files, /health, /metrics, /envs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from local.e2b.envd_client import EnvdError, Operation
from local.e2b.envd_wire import CHUNK_BYTES
from local.e2b.sandbox import Sandbox

STATUSES = {
    "not_found": 404, "invalid_argument": 400, "permission_denied": 403, "already_exists": 409,
    "resource_exhausted": 507, "unavailable": 502, "unauthenticated": 401,
}  # fmt: skip
METADATA_PREFIX = "x-metadata-"
OPERATIONS = {"GET": "read", "POST": "write"}


async def answer(sandbox: Sandbox, request: Request) -> Response:
    """The answer to a request that is allowed already."""
    try:
        match request.url.path, request.method:
            case "/health", "GET":
                return Response(status_code=204)
            case "/envs", "GET":
                return JSONResponse(sandbox.order.environment)
            case "/metrics", "GET":
                used = sandbox.usage()
                return JSONResponse({"cpu": used.cpu_seconds, "memory": used.memory, "cache": used.cache})
            case "/files", "GET":
                return await _download(sandbox, request)
            case "/files", "POST":
                return await _upload(sandbox, request)
        return failure(404, "not found")
    except EnvdError as error:
        return failure(STATUSES.get(error.code, 500), error.message)


def failure(status: int, message: str) -> JSONResponse:
    """An error as envd writes it."""
    return JSONResponse({"code": status, "message": message}, status_code=status)


def is_signed(sandbox: Sandbox, method: str, query: Mapping[str, str]) -> bool:
    """Whether a file URL carries this sandbox's signature for this path and operation, still valid."""
    expiration = query.get("signature_expiration", "")
    parts = [query.get("path", ""), OPERATIONS.get(method, ""), query.get("username", ""), sandbox.token]
    if expiration:
        if not expiration.isdigit() or int(expiration) < time.time():
            return False
        parts.append(expiration)
    digest = base64.b64encode(hashlib.sha256(":".join(parts).encode()).digest()).rstrip(b"=").decode()
    return hmac.compare_digest(f"v1_{digest}".encode(), query.get("signature", "").encode())


async def _download(sandbox: Sandbox, request: Request) -> Response:
    stack = AsyncExitStack()
    operation = await stack.enter_async_context(sandbox.envd.begin("read", path=request.query_params.get("path", "")))
    try:
        await operation.receive_json()
    except EnvdError:
        await stack.aclose()
        raise
    # No length is said: a file that grows while it is read would not keep to it.
    return StreamingResponse(_content(operation, stack), media_type="application/octet-stream")


async def _content(operation: Operation, stack: AsyncExitStack) -> AsyncIterator[bytes]:
    async with stack:
        while data := (await operation.receive())[1]:
            yield data


async def _upload(sandbox: Sandbox, request: Request) -> Response:
    kind = request.headers.get("content-type", "")
    metadata = {k[len(METADATA_PREFIX) :]: v for k, v in request.headers.items() if k.startswith(METADATA_PREFIX)}
    path = request.query_params.get("path", "")
    if not kind.startswith("multipart/form-data"):
        if not path:
            return failure(400, "path is required")
        written = [await _write(sandbox, path, metadata, _decoded(request))]
        return JSONResponse(written)
    async with request.form(max_files=10_000) as form:
        files = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
        if not files or (path and len(files) > 1):
            return failure(400, "one file is expected with `path`, at least one without")
        written = [await _write(sandbox, path or f.filename or "", metadata, _parts(f)) for f in files]
    return JSONResponse(written)


async def _write(
    sandbox: Sandbox, path: str, metadata: dict[str, str], content: AsyncIterator[bytes]
) -> dict[str, Any]:
    async with sandbox.envd.begin("write", path=path, metadata=metadata) as operation:
        await operation.receive_json()
        async for chunk in content:
            for start in range(0, len(chunk), CHUNK_BYTES):
                await operation.send(chunk[start : start + CHUNK_BYTES])
        await operation.send(b"")
        entry = (await operation.receive_json())["entry"]
    return {"name": entry["name"], "type": "file", "path": entry["path"], "metadata": entry["metadata"]}


async def _parts(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(CHUNK_BYTES):
        yield chunk


async def _decoded(request: Request) -> AsyncIterator[bytes]:
    """The body, without its compression. Raises EnvdError when it breaks off or is no gzip."""
    inflate = zlib.decompressobj(31) if request.headers.get("content-encoding") == "gzip" else None
    try:
        async for chunk in request.stream():
            data = inflate.decompress(chunk) if inflate is not None else chunk
            if data:
                yield data
        if inflate is not None and (rest := inflate.flush()):
            yield rest
    except zlib.error as error:
        raise EnvdError("invalid_argument", f"bad gzip body: {error}") from error
    except ClientDisconnect as error:
        raise EnvdError("unavailable", "the client left") from error
