"""Requests to the endpoints: signed, repeated while that can help, and refused with an error of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx

from sandstream.access import Tokens
from sandstream.backoff import Backoff
from sandstream.errors import (
    BudgetExceededError,
    NotAuthenticatedError,
    RefusedError,
    UnavailableError,
    is_temporary,
    refusal,
)
from sandstream.log import retry_after, tls

ATTEMPTS = 6
BACKOFF_FIRST_SECONDS = 0.25
BACKOFF_CAP_SECONDS = 8.0
# A server that asks for more than this is not waited for.
RETRY_AFTER_CAP_SECONDS = 60.0


class Endpoints:
    """A deployment's endpoints. Every request may be sent twice: it reads, or it carries an idempotency key."""

    def __init__(self, url: str, tokens: Tokens, *, timeout: float, attempts: int = ATTEMPTS) -> None:
        self._http = httpx.AsyncClient(base_url=url.rstrip("/"), timeout=timeout, verify=tls(url))
        self._tokens = tokens
        self._attempts = attempts

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def open(self, path: str) -> httpx.Response:
        """Something that anyone may read. Raises as `call`."""
        return await self._patiently("GET", path, headers={})

    async def call(
        self, method: str, path: str, *, body: Any = None, params: Mapping[str, Any] | None = None, key: str = ""
    ) -> httpx.Response:
        """The answer, which is JSON and a success, as the caller, with `key` as the idempotency key.

        Raises RefusedError as the answer says, UnavailableError when all attempts failed.
        """
        headers = {"Idempotency-Key": key} if key else {}
        token = await self._tokens.current()
        try:
            return await self._patiently(method, path, headers=headers | _bearer(token), json=body, params=params)
        except NotAuthenticatedError as error:
            try:
                newer = await self._tokens.instead_of(token)
            except NotAuthenticatedError:
                raise error from None
            return await self._patiently(method, path, headers=headers | _bearer(newer), json=body, params=params)

    async def _patiently(self, method: str, path: str, **request: Any) -> httpx.Response:
        backoff = Backoff(BACKOFF_FIRST_SECONDS, BACKOFF_CAP_SECONDS)
        for _ in range(self._attempts - 1):
            try:
                return await self._once(method, path, **request)
            except UnavailableError as error:
                if (error.retry_after or 0.0) > RETRY_AFTER_CAP_SECONDS:
                    raise
                await asyncio.sleep(max(backoff.next(), error.retry_after or 0.0))
        return await self._once(method, path, **request)

    async def _once(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            answer = await self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise UnavailableError(f"{self._http.base_url} cannot be reached: {error!r}") from error
        if answer.is_error:
            raise _translated(answer)
        if not answer.headers.get("content-type", "").startswith("application/json"):
            raise UnavailableError(f"{method} {path} was answered with something that is not JSON")
        return answer


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _translated(answer: httpx.Response) -> RefusedError | UnavailableError:
    body = _body(answer)
    error = body.get("error")
    error = error if isinstance(error, dict) else {}
    message = error.get("message") or f"HTTP {answer.status_code}"
    # A server that knows that it will not help says so, whatever the status.
    may_help = answer.headers.get("x-should-retry") != "false"
    if is_temporary(answer.status_code) and may_help:
        return UnavailableError(message, retry_after=retry_after(answer))
    refused = refusal(answer.status_code)(
        message,
        status=answer.status_code,
        type=error.get("type", ""),
        param=error.get("param"),
        request_id=body.get("request_id"),
    )
    if isinstance(refused, BudgetExceededError):
        refused.estimate_microusd = error.get("estimate_microusd")
        refused.remainder_microusd = error.get("remainder_microusd")
    return refused


def _body(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
