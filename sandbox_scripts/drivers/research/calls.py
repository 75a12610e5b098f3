"""One command in the script: its words, the rules it breaks, what it runs in turn, what it prints."""

from __future__ import annotations

import fnmatch
import re

from . import downloads, outputs, places, rules, wrappers
from .builtins import Builtins
from .interpreters import SHELLS, Interpreters
from .nesting import is_one_word
from .shell import text_of
from .simple import Simple
from .values import DOWNLOADED, NEXT, UNKNOWN, Unreadable, combinations, either, made_of, marked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tree_sitter import Node

    from .walk import Walk

_GLOB_NAME = re.compile(r"[*?]|\[.")
_REDIRECT = "file_redirect"
# `env nice timeout 9 ls`: each reads all words that are left once more.
_MOST_WRAPPERS = 20


class Calls:
    """The commands of one walk."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._builtins = Builtins(walk)
        self._interpreters = Interpreters(walk, self.run)
        self._running: list[str] = []
        self._called: set[str] = set()
        self._wrappers = 0

    def command(self, node: Node, stdin: str | None, more: Sequence[Node] = ()) -> tuple[str, ...]:
        """A command as it is written, with `more` words; what it prints. Raise Unreadable."""
        redirects = [child for child in node.children if child.type == _REDIRECT]
        words = [self._walk.words.fields(raw) for raw in _raw_words([*node.children, *more])]
        for child in node.children:
            if child.type == "variable_assignment":
                self.assigns(child)
        printed: list[tuple[str, ...]] = []
        given = self._walk.redirects.given(redirects, stdin)
        for ways in combinations(words):
            line = tuple(field for way in ways for field in way)
            printed += [self.run(line, one, text_of(node)) for one in given] if line else []
        return self._walk.redirects.kept(redirects, either(*printed, *([] if printed else [("",)])))

    def assigns(self, node: Node) -> None:
        """`name=value`, `name+=value`, `name=(…)`."""
        walk, value = self._walk, node.child_by_field_name("value")
        name, _, index = text_of(node.children[0]).partition("[")
        walk.words.text(index, quoted=True)  # for the commands in it
        array = value is not None and value.type == "array"
        values = self._array(value) if array and value else walk.words.text(text_of(value)) if value else ("",)
        if name.startswith("HIST") and any(one in ("/dev/null", "", "0") for one in values):
            walk.refuse("tampers-with-logs", text_of(node))
        if index or any(child.type == "+=" for child in node.children):
            walk.scope.append(name, values, array or bool(index))
        else:
            walk.scope.assign(name, values)

    def _array(self, node: Node) -> tuple[str, ...]:
        """All elements as one value. Those with an index of their own are taken in order."""
        raw = [re.sub(r"^\[[^\]]*\]=", "", text_of(child)) for child in node.children if child.is_named]
        ways = combinations([self._walk.words.fields(one) for one in raw])
        return either(NEXT.join(field for fields in way for field in fields) for way in ways)

    def declares(self, node: Node) -> None:
        """A word of `export` or `declare` that is no assignment in the tree, but may be one when it is expanded."""
        for way in self._walk.words.fields(text_of(node)):
            self._builtins.sets(way)

    def run(self, words: tuple[str, ...], stdin: str | None, piece: str) -> tuple[str, ...]:
        """A command as it is executed; what it prints. Raise Unreadable."""
        self._walk.counts()
        if not self._is_known(words[0], piece):
            return (made_of(*words),)
        printed = [
            self._run(Simple(words, stdin, standing, self._walk.limited), piece)
            for standing in self._walk.scope.standing()
        ]
        return either(*printed)

    def _run(self, simple: Simple, piece: str) -> tuple[str, ...]:
        for rule in rules.broken(simple):
            self._walk.refuse(rule, piece)
        for word in simple.arguments:
            self._walk.feeds(word, simple.stdin or UNKNOWN)
        if simple.words[0] in self._walk.scope.functions:
            return self._function(simple)
        if simple.name in wrappers.WRAPPERS:
            return self._wrapped(simple, piece)
        if simple.name == "find":
            for words in wrappers.found(simple.arguments):
                self.run(words, None, piece)
        if (script := wrappers.script(simple)) is not None:
            return self._walk.apart(script, simple.stdin)
        for handler in (self._builtins.run, self._interpreters.run):
            if (printed := handler(simple, piece)) is not None:
                return printed
        return self._printed(simple)

    def uncalled(self) -> None:
        """Follow the functions that nothing has called: another shell may. Their arguments are anything."""
        for name in [one for one in self._walk.scope.functions if one not in self._called]:
            assumed, self._walk.assumed = self._walk.assumed, True
            self._function(Simple((name, UNKNOWN), None, self._walk.scope.standing()[0]))
            self._walk.assumed = assumed

    def _is_known(self, word: str, piece: str) -> bool:
        """Whether we know what is executed; refuse what nobody can know."""
        name = word.rsplit("/", 1)[-1]
        if DOWNLOADED in word:
            self._walk.refuse(rules.DOWNLOAD, piece)
        elif UNKNOWN in name or (not marked(name) and _GLOB_NAME.search(word) and _may_be_known(name)):
            self._walk.refuse(rules.UNKNOWN_COMMAND, piece)
        return not marked(name) and bool(name)

    def _function(self, simple: Simple) -> tuple[str, ...]:
        name = simple.words[0]
        self._called.add(name)
        if name in self._running:
            return (UNKNOWN,)
        scope, before = self._walk.scope, self._walk.scope.values("@")
        scope.arguments(list(simple.arguments))
        self._running.append(name)
        try:
            return self._walk.statement(scope.functions[name], simple.stdin)
        finally:
            self._running.pop()
            scope.arguments([word for word in before[0].split(NEXT) if word])

    def _wrapped(self, simple: Simple, piece: str) -> tuple[str, ...]:
        walk, words, limited = self._walk, wrappers.inside(simple), self._walk.limited
        if (script := wrappers.script(simple)) is not None:
            return walk.apart(script, simple.stdin)
        if simple.name in ("xargs", "parallel"):
            words = wrappers.supplied(simple, words)
        if not words:
            return (UNKNOWN,)
        if self._wrappers >= _MOST_WRAPPERS:
            raise Unreadable("too deep")
        walk.limited = limited or simple.name in wrappers.LIMITS
        self._wrappers += 1
        try:
            return self.run(words, simple.stdin, piece)
        finally:
            walk.limited = limited
            self._wrappers -= 1

    def _printed(self, simple: Simple) -> tuple[str, ...]:
        """What any other command prints, and the files that it writes."""
        files = self._walk.scope.files
        fetched = downloads.mark(simple, self._walk.hosts)
        for target in downloads.targets(simple) if fetched else ():
            files[places.absolute(target, simple.standing)] = (fetched or UNKNOWN,)
        if fetched:
            return (fetched,) if downloads.prints(simple) else ("",)
        if simple.name in ("tee", "sponge", "dd"):
            for target in [word.removeprefix("of=") for word in simple.operands()]:
                files[places.absolute(target, simple.standing)] = (simple.stdin or UNKNOWN,)
        if simple.name in ("cp", "mv", "ln", "install"):
            self._copied(simple)
        return self._read(simple) or (outputs.printed(simple),)

    def _copied(self, simple: Simple) -> None:
        *sources, target = simple.operands(("-m", "-t")) or [""]
        for source in sources:
            text = self._walk.scope.files.get(places.absolute(source, simple.standing))
            if text is not None:
                self._walk.scope.files[places.absolute(target, simple.standing)] = text

    def _read(self, simple: Simple) -> tuple[str, ...] | None:
        """What a program says of files that the command has written before: `cat file`, `base64 -d file`."""
        files = self._walk.scope.files
        for word in simple.operands() if simple.name not in ("echo", "printf", "tee") else ():
            if (text := files.get(places.absolute(word, simple.standing))) is not None:
                options = tuple(one for one in simple.words if one != word)
                return either(outputs.printed(Simple(options, one, simple.standing)) for one in text)
        return None


def _may_be_known(glob: str) -> bool:
    """Whether the glob could turn into a program that the rules speak of."""
    return any(fnmatch.fnmatchcase(known, glob) for known in rules.KNOWN | wrappers.WRAPPERS.keys() | set(SHELLS))


def _raw_words(nodes: Sequence[Node]) -> list[str]:
    """The words as they are written. What the tree parts without a space between is one word."""
    found: list[str] = []
    end = -1
    for child in nodes:
        if child.type in (_REDIRECT, "variable_assignment", "comment"):
            continue
        if child.start_byte == end:
            found[-1] += text_of(child)
        else:
            found.append(text_of(child))
        end = child.end_byte
    if not all(is_one_word(raw) for raw in found):
        raise Unreadable("the grammar does not see where words end")
    return found
