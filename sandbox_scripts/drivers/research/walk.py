"""The statements of a shell script, one after the other, with all ways they may go."""

from __future__ import annotations

import re

from . import rules
from .calls import Calls
from .redirects import Redirects
from .scope import Scope
from .shell import KEY, TEXT, Heredoc, parse, text_of
from .values import DOWNLOADED, MARKS, NEXT, TRUSTED, UNKNOWN, Unreadable, either, joined
from .words import Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tree_sitter import Node

    Printed = tuple[str, ...]

DEEPEST = 20
MOST_STEPS = 10_000
NOTHING = ("",)
_UNSAID = re.compile(f"{KEY.pattern}|[{TEXT}{''.join(MARKS)}]")
_ENDS = ("exit", "return", "break", "continue")
_LEAVING = re.compile(r"\b(break|exit|return|exec|kill)\b")
_FOREVER = re.compile(
    r"(while\s+(true|:|1|\[\s*1\s*\]|\(\(\s*1\s*\)\))|until\s+false|for\s*\(\(\s*;\s*;\s*\)\))\s*[;\n]"
)


class Walk:
    """What a script would execute; `found` are the rules it breaks, each with the piece that does."""

    def __init__(self, hosts: Sequence[str] | None) -> None:
        self.hosts = hosts
        self.found: list[tuple[str, str]] = []
        self.scope = Scope()
        self.words = Words(self.scope, self._substituted, self._process)
        self.heredocs: list[Heredoc] = []
        self._calls = Calls(self)
        self.redirects = Redirects(self)
        self._waits: list[int] = []
        self._depth = self._count = 0
        self.limited = False
        self.assumed = False  # what is followed now may never happen, and not in this way

    def refuse(self, rule: str, text: str) -> None:
        """Note a broken rule, once for each piece."""
        if self.assumed and rule == rules.UNKNOWN_COMMAND:
            return
        entry = (rule, _UNSAID.sub("…", text))
        if entry not in self.found:
            self.found.append(entry)

    def counts(self) -> None:
        """One more step. Raise Unreadable when there are too many."""
        self._count += 1
        if self._count > MOST_STEPS:
            raise Unreadable("too many steps")

    def script(self, text: str, stdin: str | None = None) -> Printed:
        """Follow a script; what it prints. Raise Unreadable."""
        if self._depth >= DEEPEST:
            raise Unreadable("too deep")
        root, waits = parse(text, self.heredocs), self._waits
        self._waits = [node.start_byte for node in _commands(root) if _named(node, "wait")]
        self._depth += 1
        try:
            printed = self._block(root.children, stdin)
            self._calls.uncalled()
            return printed
        finally:
            self._depth, self._waits = self._depth - 1, waits

    def apart(self, text: str, stdin: str | None = None) -> Printed:
        """The same in a shell of its own: what it sets is forgotten."""
        before = self.scope.copy()
        try:
            return self.script(text, stdin)
        finally:
            self.scope.merge(before)

    def executes(self, text: str, stdin: str | None, piece: str) -> Printed:
        """Follow text that something made: none of it may be unknown, unless it comes from where it may."""
        if DOWNLOADED in text:
            self.refuse(rules.DOWNLOAD, piece)
        elif UNKNOWN in text:
            self.refuse(rules.UNKNOWN_COMMAND, piece)
        for mark in (DOWNLOADED, UNKNOWN):
            text = text.replace(mark, TRUSTED)  # what it makes of the whole is said
        return self.apart(text, stdin)

    def statement(self, node: Node, stdin: str | None) -> Printed:
        """Follow one statement; what it prints. Raise Unreadable."""
        self.counts()
        handler = getattr(self, f"_{node.type}", None)
        return handler(node, stdin) if handler else self._expressions(node)

    def _block(self, nodes: Iterable[Node], stdin: str | None) -> Printed:
        printed: Printed = NOTHING
        last: Node | None = None
        for node in nodes:
            if node.type == "&" and last is not None:
                self._backgrounded(last, node)
            if node.is_named and node.type not in ("comment", "heredoc_body"):
                printed = _appended(printed, self.statement(node, stdin))
                last = node
        return printed

    def _backgrounded(self, node: Node, sign: Node) -> None:
        if not any(start > sign.start_byte for start in self._waits):
            self.refuse("background", text_of(node) + " &")

    def _inner(self, node: Node, stdin: str | None) -> Printed:
        return self._block(node.children, stdin)

    _program = _do_group = _else_clause = _negated_command = _inner

    def _compound_statement(self, node: Node, stdin: str | None) -> Printed:
        return self._block(node.children, stdin) if node.children[0].type == "{" else self._expressions(node)

    def _subshell(self, node: Node, stdin: str | None) -> Printed:
        before = self.scope.copy()
        printed = self._block(node.children, stdin)
        self.scope.merge(before)
        return printed

    def _expressions(self, node: Node) -> Printed:
        """Tests and arithmetic: only for the commands in them."""
        if node.type in _EXPANDED:
            self.words.text(text_of(node))
        else:
            for child in node.children:
                self._expressions(child)
        return NOTHING

    def _list(self, node: Node, stdin: str | None) -> Printed:
        """`a && b || c`: what follows `||` may start from any state before it."""
        printed: Printed = NOTHING
        states, sign = [self.scope.copy()], ""
        for child in _flat(node):
            if child.type not in ("&&", "||"):
                before = states if sign == "&&" else states[-1:]
                printed = _appended(printed, self.statement(child, stdin))
                states = before if _named(child, *_ENDS) else [*states, self.scope.copy()]
            elif (sign := child.type) == "||":
                self.scope.merge(*states)
        self.scope.merge(*states[1:] or states)
        return printed

    def _pipeline(self, node: Node, stdin: str | None) -> Printed:
        """Each part reads what the one before prints, and is a shell of its own."""
        printed: Printed = ("",) if stdin is None else (stdin,)
        given: Sequence[str | None] = (stdin,)
        before = self.scope.copy()
        for child in node.children:
            if child.is_named:
                printed = either(*(self.statement(child, one) for one in given))
                given = printed
        self.scope.merge(before, self.scope.copy())
        return printed

    def _ways(self, *ways: Callable[[], Printed]) -> Printed:
        """Exactly one of these happens, or none."""
        before, states = self.scope.copy(), [self.scope.copy()]
        printed: list[Printed] = [NOTHING]
        for way in ways:
            self.scope.merge(before)
            printed.append(way())
            states.append(self.scope.copy())
        self.scope.merge(*states)
        return either(*printed)

    def _if_statement(self, node: Node, stdin: str | None) -> Printed:
        parts: list[list[Node]] = [[]]
        for child in node.children:
            if child.type in ("then", "elif_clause", "else_clause"):
                parts.append([])
            parts[-1].append(child)
        self._block(parts[0], stdin)
        return self._ways(*(lambda part=part: self._block(part, stdin) for part in parts[1:]))

    _elif_clause = _if_statement

    def _case_statement(self, node: Node, stdin: str | None) -> Printed:
        for value in node.children_by_field_name("value"):
            self.words.text(text_of(value))
        items = [child for child in node.children if child.type == "case_item"]
        return self._ways(*(lambda item=item: self._case_item(item, stdin) for item in items))

    def _case_item(self, node: Node, stdin: str | None) -> Printed:
        patterns = node.children_by_field_name("value")
        for pattern in patterns:
            self.words.text(text_of(pattern))
        return self._block([child for child in node.children if child not in patterns], stdin)

    def _repeated(self, turn: Callable[[], Printed]) -> Printed:
        """A body that runs any number of times: twice shows what one turn leaves to the next."""
        self._ways(turn)
        return self._ways(turn)

    def _while_statement(self, node: Node, stdin: str | None) -> Printed:
        text = text_of(node)
        if not self.limited and _FOREVER.match(text) and not _LEAVING.search(text):
            self.refuse("never-ends", text)
        return self._repeated(lambda: self._block(node.children, stdin))

    def _c_style_for_statement(self, node: Node, stdin: str | None) -> Printed:
        for child in node.children_by_field_name("initializer"):
            self.statement(child, stdin)
        for name in re.findall(r"[A-Za-z_]\w*(?=\s*(?:\+\+|--|[-+*/]?=))", text_of(node).split("))")[0]):
            self.scope.assign(name, (UNKNOWN,))
        return self._while_statement(node, stdin)

    def _for_statement(self, node: Node, stdin: str | None) -> Printed:
        name = node.child_by_field_name("variable")
        values = [value for child in node.children_by_field_name("value") for value in self._spread(child)]
        if not node.children_by_field_name("value"):
            values = [part for value in self.scope.values("@") for part in value.split(NEXT)]
        body = node.child_by_field_name("body")
        if name is None or body is None:
            return NOTHING

        def turn() -> Printed:
            self.scope.assign(text_of(name), either(values))
            return self.statement(body, stdin)

        return self._repeated(turn)

    def _spread(self, node: Node) -> list[str]:
        return [field for way in self.words.fields(text_of(node)) for field in way]

    def _function_definition(self, node: Node, _stdin: str | None) -> Printed:
        name, body = node.child_by_field_name("name"), node.child_by_field_name("body")
        if name is not None and body is not None:
            self.scope.functions[text_of(name)] = body
            if _multiplies(body, text_of(name)):
                self.refuse(rules.FORK_BOMB, text_of(node))
        return NOTHING

    def _variable_assignment(self, node: Node, _stdin: str | None) -> Printed:
        self._calls.assigns(node)
        return NOTHING

    _variable_assignments = _inner

    def _declaration_command(self, node: Node, stdin: str | None) -> Printed:
        for child in node.children[1:]:
            self.statement(child, stdin) if child.type == "variable_assignment" else self._calls.declares(child)
        return NOTHING

    def _unset_command(self, node: Node, stdin: str | None) -> Printed:
        return self._calls.command(node, stdin)

    def _command(self, node: Node, stdin: str | None) -> Printed:
        return self._calls.command(node, stdin)

    def _redirected_statement(self, node: Node, stdin: str | None) -> Printed:
        redirects = node.children_by_field_name("redirect")
        body = node.child_by_field_name("body")
        printed: Printed = NOTHING
        # The grammar takes what follows a target for more of them: `rm > log -rf x`.
        more = [one for each in redirects for one in each.children_by_field_name("destination")[1:]]
        if more and (body is None or body.type != "command"):
            raise Unreadable("words behind a redirection")
        for given in self.redirects.given(redirects, stdin):
            if body is not None:
                printed = self._calls.command(body, given, more) if more else self.statement(body, given)
        return self.redirects.kept(redirects, printed)

    def _substituted(self, text: str) -> Printed:
        """What `$(…)` stands for. `$(<file)` is the file."""
        if (file := re.fullmatch(r"\s*<\s*(\S+)\s*", text)) is not None:
            return self.redirects.contents(file[1])
        return tuple(one.rstrip("\n") for one in self.apart(text))

    def _process(self, direction: str, text: str) -> str:
        """The file that `<(…)` or `>(…)` stands for."""
        path = f"/dev/fd/{len(self.scope.files) + len(self.scope.sinks) + 60}"
        if direction == "<":
            self.scope.files[path] = self.apart(text)
        else:
            self.scope.sinks[path] = text
        return path

    def feeds(self, path: str, text: str) -> None:
        """Follow what reads on the other side, where the path is that of a `>(…)`."""
        if (script := self.scope.sinks.get(path)) is not None:
            self.apart(script, text)


_EXPANDED = ("command_substitution", "process_substitution", "string", "expansion", "simple_expansion", "concatenation")


def _appended(first: Printed, second: Printed) -> Printed:
    if second == NOTHING or first == NOTHING:
        return second if first == NOTHING else first
    try:
        return joined([first, second])
    except Unreadable:
        return (UNKNOWN,)


def _flat(node: Node) -> list[Node]:
    """The parts of `a && b || c` and the signs between them, from the left."""
    return [part for child in node.children for part in (_flat(child) if child.type == "list" else [child])]


def _commands(node: Node) -> list[Node]:
    own = [node] if node.type == "command" else []
    return own + [found for child in node.children for found in _commands(child)]


def _named(node: Node, *names: str) -> bool:
    name = node.child_by_field_name("name")
    return name is not None and text_of(name) in names


def _multiplies(body: Node, name: str) -> bool:
    """Whether a function starts itself more than once, or in the background."""
    if not any(_named(command, name) for command in _commands(body)):
        return False
    return any(
        node.type == "&" or (node.type == "pipeline" and sum(_named(one, name) for one in _commands(node)) > 1)
        for node in _all(body)
    )


def _all(node: Node) -> list[Node]:
    return [node] + [found for child in node.children for found in _all(child)]
