"""What goes wrong, in the words of Anthropic's API."""

import secrets

from starlette.responses import JSONResponse

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
MESSAGES = {429: "This request would exceed the rate limit.", 529: "Overloaded"}


class ModelError(Exception):
    """An answer that is an error: its status, message, and after how many seconds a retry may help."""

    def __init__(self, status: int, message: str | None = None, retry_after: float | None = None) -> None:
        self.status = status
        self.message = message or MESSAGES.get(status, "Internal server error")
        self.retry_after = retry_after
        super().__init__(self.message)

    def body(self) -> dict[str, object]:
        """Anthropic's error body; a stream that fails half-way carries it as an event."""
        error = {"type": TYPES.get(self.status, "api_error"), "message": self.message}
        return {"type": "error", "error": error, "request_id": f"req_{secrets.token_hex(12)}"}

    def response(self) -> JSONResponse:
        """The body under its status, with `retry-after` where there is one."""
        body = self.body()
        headers = {"request-id": str(body["request_id"])}
        if self.retry_after is not None:
            headers["retry-after"] = f"{self.retry_after:g}"
        return JSONResponse(body, self.status, headers)
