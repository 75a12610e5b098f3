"""`sandstream keys`: API keys made, listed and revoked at a terminal."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from sandstream.client import Sandstream
from sandstream.keys import Key as ApiKey
from sandstream.shell import Key, Url, err, finish, listing, moment, out, show_listing

app = typer.Typer(no_args_is_help=True, help="API keys: made, listed, revoked.")


class Scope(StrEnum):
    """What a key may do."""

    run = "run"
    read = "read"
    admin = "admin"


@app.command()
def create(
    url: Url,
    key: Key,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[list[Scope] | None, typer.Option(help="May be given more than once; run and read if not.")] = None,
    expires: Annotated[datetime | None, typer.Option(help="When it ends, in UTC; never if not.")] = None,
) -> None:
    """Make a key, and print its secret: nobody can show it again."""
    scopes = [each.value for each in dict.fromkeys(scope or (Scope.run, Scope.read))]
    ends = expires.replace(tzinfo=UTC) if expires else None

    async def make(client: Sandstream) -> int:
        made = await client.keys.create(name, scopes, expires_at=ends)
        err.print(Text(f"{made.id} may {', '.join(made.scopes)}; its secret is shown this once", style="dim"))
        out.print(Text(made.key))
        return 0

    finish(url, key, make)


@app.command(name="list")
def list_(url: Url, key: Key, limit: Annotated[int, typer.Option(min=1, max=999)] = 100) -> None:
    """List keys, newest first."""

    async def show(client: Sandstream) -> int:
        table = listing("key", "begins", "scopes", "state", "last used", "name")
        for found in (await client.keys.list(limit=limit)).data:
            used, scopes = moment(found.last_used_at), ",".join(found.scopes)
            table.add_row(found.id, found.prefix, scopes, state(found), used, Text(found.name))
        show_listing(table)
        return 0

    finish(url, key, show)


@app.command()
def revoke(url: Url, key: Key, id: Annotated[str, typer.Argument(help="A key's id, key_….")]) -> None:
    """End a key, within a second."""

    async def end(client: Sandstream) -> int:
        ended = await client.keys.revoke(id)
        out.print(Text(f"{ended.id} was revoked at {moment(ended.revoked_at)}"))
        return 0

    finish(url, key, end)


def state(key: ApiKey) -> str:
    """Whether it opens anything, in a word."""
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= datetime.now(UTC):
        return "expired"
    return "good"
