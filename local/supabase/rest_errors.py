"""What REST answers when it does not answer: PostgREST's codes, and the statuses it gives Postgres' own.

The tables follow https://docs.postgrest.org/en/stable/references/errors.html.
"""

from __future__ import annotations

import json
from typing import Any

import psycopg

STATUS_BY_CODE = {
    "23503": 409,
    "23505": 409,
    "25006": 405,
    "42883": 404,
    "42P01": 404,
    "42P17": 500,
    "53400": 500,
    "57P01": 503,
    "P0001": 400,
}
STATUS_BY_CLASS = {
    "08": 503,
    "09": 500,
    "0L": 403,
    "0P": 403,
    "25": 500,
    "28": 403,
    "2D": 500,
    "38": 500,
    "39": 500,
    "3B": 500,
    "40": 500,
    "53": 503,
    "54": 500,
    "55": 500,
    "57": 500,
    "58": 500,
    "F0": 500,
    "HV": 500,
    "P0": 500,
    "XX": 500,
}
RETRY_AFTER_SECONDS = "1"


class RestError(Exception):
    """One answer that is an error: the HTTP status, the body's four members, and headers of its own."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: str | None = None,
        hint: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message, "details": details, "hint": hint}
        self.headers = headers or {}


class SchemaMissError(RestError):
    """A name that the catalogue does not hold: worth one look at the database before it is an error."""


def bad_query(details: str, message: str = "failed to parse the query string") -> RestError:
    """PGRST100: the query string is not of the grammar."""
    return RestError(400, "PGRST100", message, details)


def bad_body(message: str = "Empty or invalid json") -> RestError:
    """PGRST102: the request's body is not what the request needs."""
    return RestError(400, "PGRST102", message)


def unreachable() -> RestError:
    """PGRST001: no connection to Postgres, or it was lost; the caller may try again."""
    message = "Database client error. Retrying the connection."
    return RestError(503, "PGRST001", message, headers={"Retry-After": RETRY_AFTER_SECONDS})


def from_postgres(error: psycopg.Error, *, anonymous: bool) -> RestError:
    """What PostgREST makes of an error that Postgres reported; one without an SQLSTATE is a lost connection."""
    code = error.sqlstate
    if code is None or code.startswith("57P"):
        return unreachable()
    diagnostic = error.diag
    message = diagnostic.message_primary or str(error)
    if code == "PGRST":
        return _from_raised_json(message, diagnostic.message_detail)
    status = _status(code, message, anonymous=anonymous)
    headers = {"Retry-After": RETRY_AFTER_SECONDS} if status == 503 else None
    return RestError(status, code, message, diagnostic.message_detail, diagnostic.message_hint, headers)


def _status(code: str, message: str, *, anonymous: bool) -> int:
    if code == "42501":
        return 401 if anonymous else 403
    if code == "21000":
        return 400 if message.endswith("requires a WHERE clause") else 500
    if code.startswith("PT"):
        return int(code[2:]) if code[2:].isdigit() and 200 <= int(code[2:]) <= 599 else 500
    return STATUS_BY_CODE.get(code, STATUS_BY_CLASS.get(code[:2], 400))


def _from_raised_json(message: str, detail: str | None) -> RestError:
    """`raise sqlstate 'PGRST'` carries the body as JSON in its message, and status and headers in its detail."""
    try:
        body: dict[str, Any] = json.loads(message)
        answer: dict[str, Any] = json.loads(detail or "")
        headers = {str(name): str(value) for name, value in answer.get("headers", {}).items()}
        details, hint = body.get("details"), body.get("hint")
        return RestError(int(answer["status"]), str(body["code"]), str(body["message"]), details, hint, headers)
    except (ValueError, KeyError, AttributeError):
        text = "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error"
        return RestError(500, "PGRST121", text)
