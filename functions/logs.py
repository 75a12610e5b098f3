"""Structured logs: one JSON object a line, with the request's, run's and session's ids, and no secrets."""

import logging
import re
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

# What must never be in a log, whoever puts it there: JWTs, Supabase, E2B, model keys.
SECRET = re.compile(r"eyJ[\w-]{5,}\.[\w-]+\.[\w-]+|sb_secret_\w+|e2b_\w{8,}|sk-[\w-]{8,}")


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blots secrets out of every text of an entry."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = SECRET.sub("[redacted]", value)
    return event


def configure(level: str, stream: TextIO | None = None) -> None:
    """Sets structlog up for the process; called when it starts. Without a stream, entries go to stdout."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
