"""Everything the client raises, drawn once.

SandstreamError
├── UnavailableError         not reachable, or failing; the same may succeed later
└── RefusedError             answered, and the answer is no: repeating it changes nothing
    ├── InvalidRequestError      400, 413, 415, 422; `param` names what is wrong
    ├── NotAuthenticatedError    401, also after the token was asked for again
    ├── BudgetExceededError      402: it would cost more than is left; the amounts say how much
    ├── NotPermittedError        403
    ├── NotFoundError            404, or another tenant's: the two look the same
    └── ConflictError            409: same key with another body, a busy session, a finished run
"""

from __future__ import annotations


class SandstreamError(Exception):
    """Base of all errors of this package."""


class UnavailableError(SandstreamError):
    """A service could not be reached or failed. `retry_after` is what it asked for, in seconds."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RefusedError(SandstreamError):
    """A service refused: its HTTP status, its word for programs, the parameter it minds, its name for the request."""

    def __init__(
        self, message: str, *, status: int, type: str = "", param: str | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.param = param
        self.request_id = request_id


class InvalidRequestError(RefusedError):
    """The request itself is wrong."""


class NotAuthenticatedError(RefusedError):
    """Nobody is signed in, or with a token that does not hold."""


class BudgetExceededError(RefusedError):
    """It would cost `estimate_microusd`, and `remainder_microusd` is left, in millionths of a US dollar."""

    estimate_microusd: int | None = None
    remainder_microusd: int | None = None


class NotPermittedError(RefusedError):
    """Signed in, but this is not for them."""


class NotFoundError(RefusedError):
    """There is no such thing for this caller."""


class ConflictError(RefusedError):
    """It cannot be done in the state that things are in; `type` says which."""


_BY_STATUS: dict[int, type[RefusedError]] = {
    400: InvalidRequestError,
    401: NotAuthenticatedError,
    402: BudgetExceededError,
    403: NotPermittedError,
    404: NotFoundError,
    409: ConflictError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
}
_LATER = frozenset({408, 425, 429})


def is_temporary(status: int) -> bool:
    """Whether the same request may succeed later."""
    return status >= 500 or status in _LATER


def refusal(status: int) -> type[RefusedError]:
    """The class for an HTTP status that is not temporary."""
    return _BY_STATUS.get(status, RefusedError)
