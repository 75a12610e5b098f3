"""What goes wrong, in the words of Anthropic's API, and on OpenAI's paths in OpenAI's."""

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
OPENAI_PATHS = ("/v1/chat/completions", "/v1/embeddings")
OPENAI_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
MESSAGES = {429: "This request would exceed the rate limit.", 529: "Overloaded"}


class ModelError(Exception):
    """An answer that is an error: its status, message, and after how many seconds a retry may help.

    `code` is the word that OpenAI's clients go by, where the status does not give it.
    """

    def __init__(
        self, status: int, message: str | None = None, retry_after: float | None = None, code: str | None = None
    ) -> None:
        self.status = status
        self.message = message or MESSAGES.get(status, "Internal server error")
        self.retry_after = retry_after
        self.code = code or OPENAI_CODES.get(status)
        super().__init__(self.message)

    def body(self) -> dict[str, object]:
        """Anthropic's error body; a stream that fails half-way carries it as an event."""
        error = {"type": TYPES.get(self.status, "api_error"), "message": self.message}
        return {"type": "error", "error": error, "request_id": f"req_{secrets.token_hex(12)}"}

    def openai_body(self) -> dict[str, object]:
        """OpenAI's error body."""
        type = "requests" if self.status == 429 else "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": type, "param": None, "code": self.code}}

    def response(self, path: str) -> JSONResponse:
        """The body under its status, as the path's API has it, with `retry-after` where there is one."""
        body, headers = self.openai_body(), {"x-request-id": f"req_{secrets.token_hex(12)}"}
        if path not in OPENAI_PATHS:
            body = self.body()
            headers = {"request-id": str(body["request_id"])}
        if self.retry_after is not None:
            headers["retry-after"] = f"{self.retry_after:g}"
        return JSONResponse(body, self.status, headers)
