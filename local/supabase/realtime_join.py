"""What a client asks for when it joins a channel: the payload of `phx_join`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from local.supabase.realtime_broadcast import REPLAY_MESSAGES_MAX


class JoinRefusedError(Exception):
    """The join is answered with an error; the message is its `reason`."""


def _or_empty(value: Any) -> Any:
    return {} if value is None else value


class Replay(BaseModel):
    """Ask for what was sent since `since`, in milliseconds of Unix time."""

    since: float = 0
    limit: int = REPLAY_MESSAGES_MAX


class BroadcastConfig(BaseModel):
    """`config.broadcast`."""

    ack: bool = False
    echo: bool = Field(default=False, alias="self")
    replay: Replay | None = None
    replication_ready: bool = False


class PresenceConfig(BaseModel):
    """`config.presence`."""

    enabled: bool = False
    key: Annotated[str, BeforeValidator(lambda key: "" if key is None else str(key))] = ""


class ChangesOptions(BaseModel):
    """`config.postgres_changes_options`."""

    wait: bool = False


class Config(BaseModel):
    """What a client asks of a channel, in `phx_join`."""

    broadcast: Annotated[BroadcastConfig, BeforeValidator(_or_empty)] = BroadcastConfig()
    presence: Annotated[PresenceConfig, BeforeValidator(_or_empty)] = PresenceConfig()
    private: Annotated[bool, BeforeValidator(bool)] = False
    postgres_changes: Annotated[list[dict[str, Any]], BeforeValidator(lambda asked: asked or [])] = []
    postgres_changes_options: Annotated[ChangesOptions, BeforeValidator(_or_empty)] = ChangesOptions()


class Join(BaseModel):
    """The payload of `phx_join`."""

    config: Config = Config()
    access_token: str | None = None


def read_join(payload: dict[str, Any]) -> Join:
    """The payload of a `phx_join`. Raises JoinRefusedError."""
    try:
        return Join.model_validate(payload)
    except ValidationError as error:
        where = ", ".join(".".join(map(str, found["loc"])) for found in error.errors())
        raise JoinRefusedError(f"InvalidJoinPayload: {where}") from error
