"""What a model is asked: by whom it shall be answered is models.py's."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Question:
    """One request: the reply has to keep to `schema`, a JSON schema called `name`."""

    def __init__(self, name: str, schema: dict[str, Any], system: str, prompt: str) -> None:
        self.name, self.schema, self.system, self.prompt = name, schema, system, prompt

    def again(self, wrong: str, reply: str) -> Question:
        """The same, with what was wrong with the last reply."""
        told = f"{self.prompt}\n\nYour last reply cannot be used: {wrong}\nIt began:\n{reply}\nReply again, corrected."
        return Question(self.name, self.schema, self.system, told)
