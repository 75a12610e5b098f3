"""Programs that execute text: shells, Python and others; as an argument, from a file, from what they read."""

from __future__ import annotations

import re

from . import code, downloads, places, rules
from .values import DOWNLOADED, UNKNOWN, made_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .simple import Simple
    from .walk import Walk

    Printed = tuple[str, ...]
    Run = Callable[[tuple[str, ...], "str | None", str], Printed]

SHELLS = ("sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "rbash", "csh", "tcsh", "fish", "pwsh")
_SHELL_VALUED = ("-o", "+o", "-O", "+O", "--rcfile", "--init-file")
_LANGUAGES = re.compile(
    r"(python|pypy|node|nodejs|deno|bun|perl|ruby|php|lua|awk|gawk|mawk|nawk|tclsh|osascript)[\d.]*"
)
_INLINE = {"python": ("-c",), "pypy": ("-c",), "php": ("-r",), "node": ("-e", "--eval", "-p", "--print")}
_AWK = ("awk", "gawk", "mawk", "nawk")


class Interpreters:
    """The interpreters of one walk."""

    def __init__(self, walk: Walk, run: Run) -> None:
        self._walk, self._run = walk, run

    def run(self, simple: Simple, piece: str) -> Printed | None:
        """What it prints; None when the command is no interpreter, nor a file that was written before."""
        if simple.name in (".", "source"):
            return self._file(simple, "".join(simple.arguments[:1]), (), piece)
        if simple.name in SHELLS:
            return self._shell(simple, piece)
        if (language := _LANGUAGES.fullmatch(simple.name)) is not None:
            return self._language(simple, language[1], piece)
        if "/" in simple.words[0]:
            return self._file(simple, simple.words[0], simple.arguments, piece)
        return None

    def _shell(self, simple: Simple, piece: str) -> Printed:
        letters, words = _shell_arguments(simple.arguments)
        if "c" in letters and words:
            return self._inline(words, simple.stdin)
        if words and words[0] not in ("-", "/dev/stdin") and "s" not in letters:
            return self._file(simple, words[0], tuple(words[1:]), piece) or (UNKNOWN,)
        if simple.stdin is not None:
            return self._walk.executes(simple.stdin, None, piece)
        if not {"--version", "--help"} & set(simple.arguments) and not simple.limited:
            self._walk.refuse("never-ends", piece)
        return ("",)

    def _inline(self, words: list[str], stdin: str | None) -> Printed:
        scope, before = self._walk.scope, self._walk.scope.copy()
        scope.arguments(words[2:])
        scope.assign("0", words[1:2] or ["bash"])
        try:
            return self._walk.apart(words[0], stdin)
        finally:
            scope.merge(before)

    def _file(self, simple: Simple, path: str, arguments: tuple[str, ...], piece: str) -> Printed | None:
        """A script that the command has written itself; one that was there before is not looked into."""
        texts = self._walk.scope.files.get(places.absolute(path, simple.standing))
        if path == "/dev/stdin" and simple.stdin is not None:
            texts = (simple.stdin,)
        if path in (UNKNOWN, DOWNLOADED):
            self._walk.refuse(rules.DOWNLOAD if path == DOWNLOADED else rules.UNKNOWN_COMMAND, piece)
        for text in texts or ():
            first = text.split("\n", 1)[0]
            language = _LANGUAGES.search(first) if first.startswith("#!") else None
            if language is not None:
                self._program(simple, language[1], text, piece)
            else:
                self._script(text, arguments, simple.stdin, piece)
        return None if texts is None else (UNKNOWN,)

    def _script(self, text: str, arguments: tuple[str, ...], stdin: str | None, piece: str) -> None:
        scope, before = self._walk.scope, self._walk.scope.copy()
        scope.arguments(list(arguments))
        try:
            self._walk.executes(text, stdin, piece)
        finally:
            scope.merge(before)

    def _language(self, simple: Simple, language: str, piece: str) -> Printed | None:
        text = self._code(simple, language)
        if text is not None:
            return self._program(simple, language, text, piece)
        for path in simple.operands()[:1]:
            for written in self._walk.scope.files.get(places.absolute(path, simple.standing), ()):
                self._program(simple, language, written, piece)
        return None

    def _code(self, simple: Simple, language: str) -> str | None:
        """The program's text where it is in the command: an argument, or what is read."""
        if language in _AWK:
            words = simple.operands(("-F", "-v", "-f", "--field-separator", "--assign"))
            return words[0] if words and simple.value("-f") is None else None
        options = _INLINE.get(language, ("-e", "-E"))
        if any(simple.has(option) for option in options) and (text := _inline(simple, options)) is not None:
            return text
        words = simple.operands(("-m", "-W", "-X"))
        reads = not words or words[0] in ("-", "/dev/stdin")
        return simple.stdin if reads and not simple.has("-m", "--version", "-V", "--help") else None

    def _program(self, simple: Simple, language: str, text: str, piece: str) -> Printed:
        walk = self._walk
        if DOWNLOADED in text:
            walk.refuse(rules.DOWNLOAD, piece)
        if not re.sub(f"[{UNKNOWN}\\s]", "", text) and text:
            walk.refuse(rules.UNKNOWN_COMMAND, piece)
        found = code.within(language, text)
        for rule in found.rules:
            walk.refuse(rule, piece)
        fetched = downloads.mark_of_code(" ".join((*simple.arguments, text)), walk.hosts)
        if found.evaluates and fetched == DOWNLOADED:
            walk.refuse(rules.DOWNLOAD, piece)
        self._commands(found, piece)
        return (fetched or made_of(text, simple.stdin or "", *simple.arguments),)

    def _commands(self, found: code.Within, piece: str) -> None:
        for text in found.texts:
            self._walk.apart(text)
        for words in found.commands:
            self._run(words, None, piece)
        for text in found.fed:
            self._walk.apart(text, UNKNOWN)


def _inline(simple: Simple, options: tuple[str, ...]) -> str | None:
    """What follows the option, which may be the last of several letters."""
    words = simple.arguments
    for place, word in enumerate(words):
        if word in options or (re.fullmatch("-[A-Za-z]+", word) and "-" + word[-1] in options):
            return "".join(words[place + 1 : place + 2])
        if len(word) > 2 and word[:2] in options:
            return word[2:]
    return None


def _shell_arguments(arguments: tuple[str, ...]) -> tuple[str, list[str]]:
    """The letters of the options, and what comes after them."""
    letters, words = "", list(arguments)
    while words and words[0][:1] in ("-", "+") and words[0] != "-":
        option = words.pop(0)
        if option == "--":
            break
        if option in _SHELL_VALUED or (option.endswith("o") and not option.startswith("--")):
            words = words[1:]
        letters += option[1:] if not option.startswith("--") else ""
    return letters, words
