"""What E2B tells us: lifecycle webhooks, signed in a way of their own, in two generations of names."""

import base64
import hashlib
import hmac
from typing import Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from functions.errors import InvalidRequest, NotAuthenticated

PREFIX = "sandbox.lifecycle."
# After these a live run may be without its runner. The others say nothing that the sweep would not know.
TELLING = (f"{PREFIX}killed", f"{PREFIX}paused")


class Delivery(BaseModel):
    """One event of a sandbox's life. `id` is the event's: it stays the same when E2B delivers it again."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str = Field(min_length=1, max_length=128)
    type: str = Field(max_length=128)
    sandbox_id: str = Field(validation_alias=AliasChoices("sandbox_id", "sandboxId"), min_length=1, max_length=128)

    @classmethod
    def read(cls, body: bytes, signature: str | None, secret: SecretStr) -> Self:
        """The delivery in a request's body. Raises NotAuthenticated unless E2B signed it, InvalidRequest."""
        if not is_signed(body, signature, secret):
            raise NotAuthenticated("the signature is not E2B's")
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidRequest(first["msg"], param=".".join(str(part) for part in first["loc"]) or "body") from error

    @property
    def is_telling(self) -> bool:
        """Whether the sandbox is worth a look."""
        return self.type in TELLING


def is_signed(body: bytes, signature: str | None, secret: SecretStr) -> bool:
    """E2B's scheme, which is no HMAC: base64 of sha256(secret + body) without padding, in either alphabet."""
    digest = hashlib.sha256(secret.get_secret_value().encode() + body).digest()
    expected = base64.urlsafe_b64encode(digest).rstrip(b"=")
    given = (signature or "").rstrip("=").translate(str.maketrans("+/", "-_"))
    return hmac.compare_digest(expected, given.encode())
