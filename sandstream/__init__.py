"""The client: submit work, cancel it, and watch every event exactly once, in order."""

from sandstream.access import SupabaseAccess
from sandstream.client import Sandstream
from sandstream.errors import (
    ConflictError,
    InvalidRequestError,
    NotAuthenticatedError,
    NotFoundError,
    NotPermittedError,
    RefusedError,
    SandstreamError,
    UnavailableError,
)
from sandstream.events import Event, is_final
from sandstream.schedule import WatchSettings
from sandstream.signin import Anonymous, Password
from sandstream.wire import Command, Page, Run, Session

__all__ = [
    "Anonymous",
    "Command",
    "ConflictError",
    "Event",
    "InvalidRequestError",
    "NotAuthenticatedError",
    "NotFoundError",
    "NotPermittedError",
    "Page",
    "Password",
    "RefusedError",
    "Run",
    "Sandstream",
    "SandstreamError",
    "Session",
    "SupabaseAccess",
    "UnavailableError",
    "WatchSettings",
    "is_final",
]
