"""What people said in a request, and how far the answer to the newest of it has come.

The CLI mixes texts of its own into the conversation: reminders, notices of interruption, traces of its slash commands.
The forms below were seen in requests of version 2.1.330.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from local.models.requests import Message, MessagesRequest

REMINDER = re.compile(r"<system-reminder>(.*?)</system-reminder>", re.DOTALL)
# A message sent while a turn works comes inside a reminder, mostly of a message of the role `system`.
QUEUED = re.compile(
    r"The user sent a new message while you were working:\n(.*?)(?=\n\nThis is how Claude Code surfaces|\Z)", re.DOTALL
)
# What our own driver tells again after a run that was cut off.
AGAIN = re.compile(r"the user had said this to you:\n(.*?)\nWhat was done about it may be lost\.", re.DOTALL)
COMMAND = re.compile(r"<((?:local-)?command-[a-z]+)>.*?</\1>", re.DOTALL)
INTERRUPTED = re.compile(r"\[Request interrupted by user[^\]]*\]")
SUMMARY = "This session is being continued from a previous conversation"
DIRECTORY = re.compile(r"[Ww]orking directory: (\S[^\n]*)")


@dataclass(frozen=True)
class Conversation:
    """A request as the script reads it: `prompts` oldest first, `turn` answers given since the newest of them."""

    prompts: tuple[str, ...]
    turn: int
    summary: str
    directory: str
    system: str

    @classmethod
    def of(cls, request: MessagesRequest) -> "Conversation":
        """Reads the whole request; it may hold no prompt at all."""
        said = [prompts_of(message) for message in request.messages]
        newest = max((index for index, prompts in enumerate(said) if prompts), default=-1)
        return cls(
            prompts=tuple(prompt for prompts in said for prompt in prompts),
            turn=[message.role for message in request.messages[newest + 1 :]].count("assistant"),
            summary=next((text for text in _texts(request) if _is_summary(text)), ""),
            directory=_directory(request),
            system=request.system_text,
        )

    @property
    def prompt(self) -> str:
        """What was said last, empty when nothing was."""
        return self.prompts[-1] if self.prompts else ""

    def remembered(self, pattern: str) -> str | None:
        """The first match of a regular expression, or its group 1, in what was said before the newest prompt.

        What the CLI kept of a conversation when it compacted it counts as said before.
        """
        return first_match(pattern, (self.summary, *self.prompts[:-1]))

    def asked(self, pattern: str) -> str | None:
        """The same in the newest prompt itself, where research shows what its commands brought."""
        return first_match(pattern, (self.prompt,))


def first_match(pattern: str, texts: Iterable[str]) -> str | None:
    """The first match in the first text that has one, or its group 1."""
    for text in texts:
        if found := re.search(pattern, text):
            return str(found[1] if found.re.groups else found[0])
    return None


def prompts_of(message: Message) -> list[str]:
    """What people said in a message: tool results and the CLI's own texts are nobody's words.

    The CLI joins messages that nothing was answered to. What follows a notice of interruption is a prompt of its own,
    the rest is one.
    """
    if message.role == "assistant":
        return []
    text = "\n".join(text for text in message.texts() if not _is_summary(text))
    spoken = [] if message.role == "system" else INTERRUPTED.split(COMMAND.sub("", REMINDER.sub("", text)))
    queued = [found for reminder in REMINDER.findall(text) for found in QUEUED.findall(reminder)]
    parts = [*AGAIN.findall(text), *spoken, "\n".join(queued)]
    return [part.strip() for part in parts if part.strip()]


def _is_summary(text: str) -> bool:
    return text.startswith(SUMMARY)


def _texts(request: MessagesRequest) -> list[str]:
    return [text for message in request.messages for text in message.texts()]


def _directory(request: MessagesRequest) -> str:
    found = next((match[1] for match in map(DIRECTORY.search, (request.system_text, *_texts(request))) if match), ".")
    return found.strip()
