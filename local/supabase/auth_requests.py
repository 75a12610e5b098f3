"""What Auth is sent, parsed at the edge."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, ValidationError
from starlette.requests import Request

from local.supabase.auth_errors import AuthError, weak_password

MINIMUM_PASSWORD = 6
MAXIMUM_PASSWORD = 72
"""Bytes: what bcrypt takes on hosted Supabase."""


def _email(value: str) -> str:
    name, _, host = value.strip().lower().rpartition("@")
    if (
        not name
        or "." not in host.strip(".")
        or any(one.isspace() or one == "\0" for one in value.strip())
        or len(value) > 255
    ):
        raise AuthError(400, "validation_failed", "Unable to validate email address: invalid format")
    return f"{name}@{host}"


def _password(value: str) -> str:
    if len(value) < MINIMUM_PASSWORD:
        raise weak_password(MINIMUM_PASSWORD)
    if len(value.encode()) > MAXIMUM_PASSWORD:
        message = f"Password cannot be longer than {MAXIMUM_PASSWORD} characters"
        raise AuthError(400, "validation_failed", message)
    return value


Body = TypeVar("Body", bound=BaseModel)
Email = Annotated[str, AfterValidator(_email)]
Password = Annotated[str, AfterValidator(_password)]


# From left to right: an empty one is none, not a bad one.
OptionalEmail = Annotated[Literal[""] | Email | None, Field(union_mode="left_to_right")]
OptionalPassword = Annotated[Literal[""] | Password | None, Field(union_mode="left_to_right")]


class SignUp(BaseModel):
    """`POST /signup`. Without an email: an anonymous user."""

    email: OptionalEmail = None
    phone: str | None = None
    password: OptionalPassword = None
    data: dict[str, Any] | None = None


class PasswordGrant(BaseModel):
    """`POST /token?grant_type=password`."""

    email: str = ""
    password: str = ""


class RefreshGrant(BaseModel):
    """`POST /token?grant_type=refresh_token`."""

    refresh_token: str = ""


class UserUpdate(BaseModel):
    """`PUT /user`."""

    email: Email | None = None
    password: Password | None = None
    data: dict[str, Any] | None = None


class AdminUser(BaseModel):
    """`POST /admin/users` and `PUT /admin/users/{id}`. `ban_duration` is `none` or seconds, minutes, hours: `24h`."""

    id: UUID | None = None
    email: Email | None = None
    password: Password | None = None
    email_confirm: bool = False
    user_metadata: dict[str, Any] | None = None
    app_metadata: dict[str, Any] | None = None
    role: str | None = None
    ban_duration: str | None = None


class AdminDelete(BaseModel):
    """`DELETE /admin/users/{id}`."""

    should_soft_delete: bool = False


async def parse(request: Request, model: type[Body]) -> Body:
    """The request's JSON body; an empty one is `{}`. Raises AuthError (400)."""
    try:
        return model.model_validate_json(await request.body() or b"{}")
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            raise AuthError(400, "bad_json", "Could not parse request body as JSON") from error
        where = ".".join(str(one) for one in first["loc"])
        raise AuthError(400, "validation_failed", f"{where}: {first['msg']}") from error
