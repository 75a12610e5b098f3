"""The demo's second act: a conversation that builds something, and a follow-up that changes the same files."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from rich.console import Console
from rich.text import Text

from sandstream.changes import Change, changes
from sandstream.check import Check, contiguous
from sandstream.client import Sandstream
from sandstream.events import Event, Preview
from sandstream.render import printable
from sandstream.screen import Screen
from sandstream.turn import Turn

PROMPT = "build a small todo page"
FOLLOW_UP = "add dark mode"
# Of each file's changes, so many lines are shown.
LINES_SHOWN = 3


@dataclass
class Talk:
    """What the watcher saw of a conversation, turn by turn."""

    events: list[Event] = field(default_factory=list)
    turns: list[list[Event]] = field(default_factory=list)
    pieces: int = 0
    """Previews with text in them."""


async def perform(console: Console, client: Sandstream) -> Talk:
    """Both turns, shown live. Raises SandstreamError."""
    talk, screen = Talk(), Screen(console)
    session = await client.create_session(PROMPT, title=f"demo: {PROMPT}")
    screen.note(f"session {session.id}")
    await follow(client, session.id, talk, screen)
    screen.note("\nThe turn is over and its runner gone; the session goes on in the same sandbox.")
    await client.send(session.id, FOLLOW_UP)
    await follow(client, session.id, talk, screen)
    return talk


async def follow(client: Sandstream, session_id: UUID, talk: Talk, screen: Screen) -> None:
    """One turn, from where the watcher stands to its end."""
    turn: list[Event] = []
    talk.turns.append(turn)
    async for item in client.watch(session_id, len(talk.events), previews=True):
        screen.show(item)
        if isinstance(item, Preview):
            talk.pieces += bool(item.text)
        else:
            talk.events.append(item)
            turn.append(item)
    screen.note("\n" + Turn.of(turn).summary)


def show_changes(console: Console, talk: Talk) -> None:
    """Each file: as it was written, and what the follow-up did to it."""
    first, second = (changes(turn) for turn in talk.turns)
    for path in [*first, *(path for path in second if path not in first)]:
        written = f"{len(first[path].added)} lines" if path in first else "new"
        console.print(Text(f"  {path:<14} {written:>9}, then {second.get(path, Change()).counts}"), soft_wrap=True)
        for line in [line for line in second.get(path, Change()).added if line.strip()][:LINES_SHOWN]:
            cut = Text(f"    + {printable(line)}", style="green")
            console.print(cut, no_wrap=True, overflow="ellipsis", soft_wrap=False)


def judge(talk: Talk) -> list[Check]:
    """What this act promises."""
    turns = [Turn.of(turn) for turn in talk.turns]
    first, second = (changes(turn) for turn in talk.turns)
    same = [path for path in second if path in first]
    ends = ", ".join(turn.error or turn.stop_reason or "no end" for turn in turns)
    return [
        Check("both turns ended well", all(ended_well(turn) for turn in turns), ends),
        contiguous("the conversation", talk.events),
        Check("words came as they were written", talk.pieces > 1, f"{talk.pieces} pieces"),
        Check("the first turn wrote files", bool(first), ", ".join(first) or "none"),
        Check("the follow-up changed those files", bool(same), ", ".join(same) or "none"),
    ]


def ended_well(turn: Turn) -> bool:
    """Whether Claude came to its own end."""
    return turn.stop_reason == "end_turn" and not turn.failed
