"""One REST request, parsed at the edge: who calls, what is preferred, which rows are wanted."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json
from starlette.requests import Request

from local.supabase.keys import Caller
from local.supabase.rest_errors import RestError, bad_body

SINGULAR = "application/vnd.pgrst.object+json"
JSON = "application/json"
READS = ("GET", "HEAD")
HIDDEN_HEADERS = ("authorization", "cookie")
KNOWN_PREFERENCES = {
    "return": ("minimal", "representation", "headers-only"),
    "resolution": ("merge-duplicates", "ignore-duplicates"),
    "count": ("exact", "planned", "estimated"),
    "missing": ("default", "null"),
    "tx": ("commit",),
    "handling": ("strict", "lenient"),
}


@dataclass(frozen=True)
class RestRequest:
    """What REST needs to know of an HTTP request. `window` is the Range header's (first, last), `last` may be open."""

    method: str
    path: str
    parameters: list[tuple[str, str]]
    caller: Caller
    schema: str
    preferences: dict[str, str]
    accept: str
    strip_nulls: bool
    window: tuple[int, int | None] | None
    headers_json: str
    body: bytes = b""
    form: bool = False

    @property
    def is_read(self) -> bool:
        """GET or HEAD: the transaction is read-only."""
        return self.method in READS

    @property
    def singular(self) -> bool:
        """Whether the answer is one object, and anything but one row an error."""
        return self.accept == SINGULAR

    @property
    def returns(self) -> str:
        """`Prefer: return=`; minimal unless it says otherwise."""
        return self.preferences.get("return", "minimal")

    @property
    def counts(self) -> bool:
        """Whether the number of all rows is wanted; an estimate is answered exactly."""
        return "count" in self.preferences

    @property
    def text(self) -> str:
        """The body as text. Raises RestError when it is not UTF-8 or holds a NUL, which Postgres has no place for."""
        try:
            text = self.body.decode()
        except UnicodeDecodeError:
            raise bad_body("the body is not UTF-8") from None
        if "\0" in text:
            raise bad_body("the body holds a NUL byte")
        return text

    @property
    def json(self) -> Any:
        """The body, parsed. Raises RestError (PGRST102)."""
        try:
            return from_json(self.body, cache_strings="keys", allow_inf_nan=False)
        except ValueError:
            raise bad_body() from None


async def parse_request(request: Request, caller: Caller, schemas: tuple[str, ...]) -> RestRequest:
    """Raises RestError for what the headers may not say."""
    accept, strip_nulls = _accept(request.headers.get("accept", "*/*"))
    return RestRequest(
        method=request.method,
        path=request.url.path,
        parameters=[(key, value) for key, value in request.query_params.multi_items() if key != "apikey"],
        caller=caller,
        schema=_schema(request, schemas),
        preferences=_preferences(request.headers.getlist("prefer")),
        accept=accept,
        strip_nulls=strip_nulls,
        window=_window(request.headers.get("range")),
        headers_json=json.dumps({key: value for key, value in request.headers.items() if key not in HIDDEN_HEADERS}),
        body=await request.body(),
        form=request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"),
    )


def _schema(request: Request, schemas: tuple[str, ...]) -> str:
    name = request.headers.get("accept-profile" if request.method in READS else "content-profile", schemas[0])
    if name not in schemas:
        listed = ", ".join(schemas)
        raise RestError(
            406, "PGRST106", f"Invalid schema: {name}", None, f"Only the following schemas are exposed: {listed}"
        )
    return name


def _preferences(headers: list[str]) -> dict[str, str]:
    """The known preferences; under `handling=strict` an unknown one raises RestError (PGRST122)."""
    given = [part.strip().partition("=") for header in headers for part in header.split(",") if part.strip()]
    known = {key: value for key, _, value in given if value in KNOWN_PREFERENCES.get(key, ())}
    unknown = [f"{key}={value}" for key, _, value in given if value not in KNOWN_PREFERENCES.get(key, ())]
    if unknown and known.get("handling") == "strict":
        message = "Invalid preferences given with handling=strict"
        raise RestError(400, "PGRST122", message, f"Invalid preferences: {', '.join(unknown)}")
    return known


def _accept(header: str) -> tuple[str, bool]:
    """The media type to answer with, and whether nulls are stripped. Raises RestError (PGRST107)."""
    for part in header.split(","):
        media, *parameters = [piece.strip() for piece in part.split(";")]
        strip_nulls = "nulls=stripped" in parameters
        if media in (SINGULAR, "application/vnd.pgrst.object"):
            return SINGULAR, strip_nulls
        if media in (JSON, "*/*", "application/*", "application/vnd.pgrst.array+json", "application/vnd.pgrst.array"):
            return JSON, strip_nulls
    raise RestError(406, "PGRST107", f"None of these media types are available: {header}")


def _window(header: str | None) -> tuple[int, int | None] | None:
    match = re.fullmatch(r"(?:items=)?(\d+)-(\d*)", (header or "").strip())
    if match is None:
        return None
    return int(match[1]), int(match[2]) if match[2] else None
