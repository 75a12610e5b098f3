"""Scripts: which answer is given to what. `local/README.md` has the format."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from local.models.conversation import Conversation
from local.models.errors import ModelError
from local.models.placeholders import filled

BUILT_IN = Path(__file__).parent / "scripts"
INCLUDED = re.compile(r"\{\{file:([^{}]+)\}\}")


class Strict(BaseModel):
    """A part of a script; a field that is not known is an error, since it would be a misspelt one."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Text(Strict):
    """Something said."""

    type: Literal["text"]
    text: str


class Thinking(Strict):
    """Something thought; its signature is made when it is sent."""

    type: Literal["thinking"]
    thinking: str


class ToolUse(Strict):
    """A tool called; its id is made when it is sent."""

    type: Literal["tool_use"]
    name: str
    input: dict[str, Any]


class Json(Strict):
    """A value that is said as JSON, which is how models answer in a form that was asked for."""

    type: Literal["json"]
    value: Any


Content = Annotated[Text | Json | Thinking | ToolUse, Field(discriminator="type")]


class Usage(Strict):
    """What is charged instead of what was counted."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class Failure(Strict):
    """An error instead of an answer, to the first `times` requests, or to all."""

    status: int = Field(ge=400, le=599)
    message: str | None = None
    retry_after: float | None = None
    times: int | None = None


class Turn(Strict):
    """One answer, and what goes wrong with it."""

    content: list[Content] = []
    usage: Usage = Usage()
    stop_reason: str | None = None
    delay_ms: float = Field(0, ge=0, le=60_000)
    error: Failure | None = None
    cut_after: int | None = Field(None, ge=0)
    hang: bool = False
    times: int | None = None

    @property
    def is_faulty(self) -> bool:
        """Whether it does not simply answer."""
        return self.error is not None or self.cut_after is not None or self.hang

    @property
    def fault_times(self) -> int | None:
        """How many requests the fault meets before one is answered; null: all."""
        return self.error.times if self.error is not None and self.error.times is not None else self.times


class When(Strict):
    """Regular expressions: one is searched in the newest prompt, one in the system prompt; both must be found."""

    prompt: str = ""
    system: str = ""

    @field_validator("prompt", "system")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern


class Script(Strict):
    """The turns that answer one prompt."""

    when: When = When()
    turns: list[Turn] = Field(min_length=1)

    def matches(self, conversation: Conversation) -> bool:
        """Whether it is for this conversation's newest prompt."""
        return bool(
            re.search(self.when.prompt, conversation.prompt) and re.search(self.when.system, conversation.system)
        )


FILE = TypeAdapter(list[Script])


class Shelf:
    """A directory's scripts, in the order of their files' names; files are read anew when they change."""

    def __init__(self, directory: Path, web: str) -> None:
        self._directory = directory
        self._web = web
        self._read: dict[Path, tuple[tuple[int, int, int], list[Script]]] = {}

    def __iter__(self) -> Iterator[Script]:
        """Raises ModelError 400, which no client retries, with the name of a file that is no script."""
        for path in sorted(self._directory.glob("*.json")):
            yield from self._scripts(path)

    def _scripts(self, path: Path) -> list[Script]:
        state = path.stat()
        version = (state.st_ino, state.st_mtime_ns, state.st_size)
        if path not in self._read or self._read[path][0] != version:
            self._read[path] = (version, parsed(path, self._web))
        return self._read[path][1]


class Library:
    """All scripts: those for the CLI's own requests, the operator's, and the built-in ones, research before the rest.

    A question that is researched may have the words that a conversation's script waits for; not the other way round.
    """

    def __init__(self, directory: Path | None, web: str = "") -> None:
        directories = [BUILT_IN / "internal", *([directory] if directory else []), BUILT_IN / "research", BUILT_IN]
        self._shelves: Sequence[Shelf] = [Shelf(found, web) for found in directories]

    def script(self, conversation: Conversation) -> Script:
        """The first that matches. Raises ModelError 400 when a file is no script, or none matches."""
        for shelf in self._shelves:
            for script in shelf:
                if script.matches(conversation):
                    return script
        raise ModelError(400, "no script matches this prompt")


def parsed(path: Path, web: str = "") -> list[Script]:
    """A file's script, or its list of them; `{{web}}` is `web`. Raises ModelError 400 with what is wrong."""
    try:
        found = with_files(json.loads(path.read_bytes()), path.parent)
        found = filled(found, lambda text: text.replace("{{web}}", web))
        return FILE.validate_python(found if isinstance(found, list) else [found])
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(400, f"script {path.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, OSError) as error:
        raise ModelError(400, f"script {path.name}: {error}") from None


def with_files(value: Any, directory: Path) -> Any:
    """A JSON value with each `{{file:NAME}}` replaced by that file's text. Raises OSError when there is none."""
    return filled(value, lambda text: INCLUDED.sub(lambda found: (directory / found[1]).read_text(), text))
