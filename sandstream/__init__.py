"""The client: talk to Claude, submit plans, ask questions, and watch every event exactly once, in order."""

from sandstream.access import SupabaseAccess
from sandstream.client import Sandstream
from sandstream.errors import (
    BudgetExceededError,
    ConflictError,
    InvalidRequestError,
    NotAuthenticatedError,
    NotFoundError,
    NotPermittedError,
    RefusedError,
    SandstreamError,
    UnavailableError,
)
from sandstream.events import Event, Preview, is_final
from sandstream.keys import Key, NewKey, WatchToken
from sandstream.research import Citation, Fact, Plan, PlanStep, ResearchTask, Results
from sandstream.schedule import WatchSettings
from sandstream.signin import Anonymous, Password
from sandstream.usage import AccountUsage, DayUsage, MonthUsage
from sandstream.wire import Command, Page, Run, Session, Usage

__all__ = [
    "AccountUsage",
    "Anonymous",
    "BudgetExceededError",
    "Citation",
    "Command",
    "ConflictError",
    "DayUsage",
    "Event",
    "Fact",
    "InvalidRequestError",
    "Key",
    "MonthUsage",
    "NewKey",
    "NotAuthenticatedError",
    "NotFoundError",
    "NotPermittedError",
    "Page",
    "Password",
    "Plan",
    "PlanStep",
    "Preview",
    "RefusedError",
    "ResearchTask",
    "Results",
    "Run",
    "Sandstream",
    "SandstreamError",
    "Session",
    "SupabaseAccess",
    "UnavailableError",
    "Usage",
    "WatchSettings",
    "WatchToken",
    "is_final",
]
