"""Every way a request can be refused, drawn once.

ApiError
├── InvalidRequest 400        a body, a parameter or a header is wrong; `param` names it
├── NotAuthenticated 401
├── BudgetExceeded 402        it would cost more than is left of the owner's month, or of its own budget
├── NotPermitted 403
├── NotFound 404
├── Conflict 409              same key with another body, a busy session, a finished run
├── TooLarge 413
├── UnsupportedMediaType 415
├── TooManySandboxes 429      as many of the owner's runs are live as may be
├── RateLimited 429           too many requests of one kind; the headers say when the next one may come
├── NotBuilt 501              a part of the Managed Agents API that is not here; the message names it
└── Unavailable 503
    ├── ModelNotConfigured 503       the deployment has no key for the model
    ├── EmbeddingUnavailable 503     nobody could tell what a question is like
    ├── SandboxUnavailable 502/503   E2B refused or did not answer
    │   └── SandboxGone 502              E2B says that there is no such sandbox any more
    └── StoreUnavailable 503         Supabase refused or did not answer
"""

from typing import Any

RETRY_AFTER_SECONDS = 2
# What the official SDK obeys before it looks at the status.
NOT_AGAIN = {"x-should-retry": "false"}


class ApiError(Exception):
    """Base of all refusals: a status, a word for programs, a sentence for people, and the parameter that is wrong."""

    status = 500
    type = "api_error"
    # Of a status that the official SDK repeats unless it is told not to: it is told, since that would not help.
    is_final = False

    def __init__(
        self, message: str, *, type: str | None = None, param: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.type = type or self.type
        self.param = param
        self.status = status or self.status
        # What the answer says beside a word and a sentence.
        self.facts: dict[str, Any] = {}

    @property
    def headers(self) -> dict[str, str]:
        """What the answer's headers add."""
        return NOT_AGAIN if self.is_final else {}

    def body(self, request_id: str) -> dict[str, Any]:
        """The answer's JSON: `{"type": "error", "error": {"type", "message", "param"?, …}, "request_id"}`."""
        error: dict[str, Any] = {"type": self.type, "message": self.message, **self.facts}
        if self.param is not None:
            error["param"] = self.param
        return {"type": "error", "error": error, "request_id": request_id}


class InvalidRequest(ApiError):
    """The request itself is wrong."""

    status = 400
    type = "invalid_request_error"


class NotAuthenticated(ApiError):
    """Nobody signed in, or with a token that does not hold."""

    status = 401
    type = "authentication_error"

    @property
    def headers(self) -> dict[str, str]:
        """RFC 9110: a 401 names the scheme."""
        return {"WWW-Authenticate": "Bearer"}


class BudgetExceeded(ApiError):
    """It would cost more than may still be spent: `estimate_microusd`, with `remainder_microusd` left."""

    status = 402
    type = "budget_exceeded"
    is_final = True

    def __init__(self, message: str, estimate_microusd: int | None, remainder_microusd: int | None) -> None:
        super().__init__(message)
        self.facts = {"estimate_microusd": estimate_microusd, "remainder_microusd": remainder_microusd}


class NotPermitted(ApiError):
    """Signed in, but this is not for them."""

    status = 403
    type = "permission_error"


class NotFound(ApiError):
    """There is no such thing, or it is another tenant's: the two look the same."""

    status = 404
    type = "not_found_error"


class Conflict(ApiError):
    """It cannot be done in the state that things are in; `type` says which."""

    status = 409
    type = "conflict_error"
    is_final = True


class TooLarge(ApiError):
    """The body is over the limit."""

    status = 413
    type = "request_too_large"


class UnsupportedMediaType(ApiError):
    """The body is not JSON."""

    status = 415
    type = "unsupported_media_type"


class TooManySandboxes(ApiError):
    """No other sandbox of this owner may start until one has ended."""

    status = 429
    type = "too_many_sandboxes"
    is_final = True


class RateLimited(ApiError):
    """More requests than a minute may have: `limit` of them, the next one in so many seconds."""

    status = 429
    type = "rate_limited"

    def __init__(self, limit: int, seconds: int) -> None:
        super().__init__(f"at most {limit} requests of this kind a minute")
        self._limit = limit
        self._seconds = seconds

    @property
    def headers(self) -> dict[str, str]:
        """When to try again, in seconds; the names are those of draft-ietf-httpapi-ratelimit-headers-03."""
        return {
            "Retry-After": str(self._seconds),
            "RateLimit-Limit": str(self._limit),
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": str(self._seconds),
        }


class NotBuilt(ApiError):
    """A part of the Managed Agents API that this server does not have."""

    status = 501
    type = "not_implemented"
    is_final = True


class Unavailable(ApiError):
    """A service behind us failed; the same request may be sent again.

    `is_done_in_part`: sent again without an Idempotency-Key, it would do once more what it has done already.
    """

    status = 503
    type = "overloaded_error"
    is_done_in_part = False

    @property
    def headers(self) -> dict[str, str]:
        """When to try again, in seconds; and to the official SDK, which sends no keys, whether at all by itself."""
        return {"Retry-After": str(RETRY_AFTER_SECONDS), **(NOT_AGAIN if self.is_done_in_part else {})}


class ModelNotConfigured(Unavailable):
    """The deployment has no key for the model that is needed."""

    type = "model_not_configured"


class EmbeddingUnavailable(Unavailable):
    """The embedding model refused, failed or did not answer in time. What is asked is then asked anew."""

    type = "embedding_unavailable"


class SandboxUnavailable(Unavailable):
    """E2B refused, failed or did not answer in time."""

    status = 502
    type = "sandbox_unavailable"


class SandboxGone(SandboxUnavailable):
    """The sandbox does not exist any more."""

    type = "sandbox_gone"


class StoreUnavailable(Unavailable):
    """Supabase refused, failed or did not answer in time."""

    type = "store_unavailable"
