"""`{{…}}` in a script's texts: what stands for something that is known only when it is said."""

import re
from collections.abc import Callable
from typing import Any

from local.models.conversation import Conversation

SPOKEN = re.compile(r"\{\{(cwd|prompts|memory:(.+?)|prompt:(.+?))\}\}")
NOT_REMEMBERED = "(not remembered)"
NOT_FOUND = "(not found)"


def filled(value: Any, fill: Callable[[str], str]) -> Any:
    """A JSON value with every text in it filled; the names of fields stay."""
    match value:
        case str():
            return fill(value)
        case list():
            return [filled(each, fill) for each in value]
        case dict():
            return {name: filled(each, fill) for name, each in value.items()}
        case _:
            return value


def spoken(text: str, conversation: Conversation) -> str:
    """A text with what depends on the request. Raises re.error for a pattern that is none.

    `{{cwd}}` is the CLI's working directory, `{{prompts}}` a list of what was said before the newest prompt,
    `{{memory:REGEX}}` the first match in it, and `{{prompt:REGEX}}` the first in the newest prompt itself.
    """

    def replacement(found: re.Match[str]) -> str:
        match found[1]:
            case "cwd":
                return conversation.directory
            case "prompts":
                return "\n".join(f"- {prompt}" for prompt in conversation.prompts[:-1])
            case _ if found[3]:
                return conversation.asked(found[3]) or NOT_FOUND
            case _:
                return conversation.remembered(found[2]) or NOT_REMEMBERED

    return SPOKEN.sub(replacement, text)
