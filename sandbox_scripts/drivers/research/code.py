"""Commands within programs in other languages, as far as they are written out: `python -c`, `perl -e`, `awk`."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from . import machine, rules, secrets
from .values import UNKNOWN

_CALLS = ("system", "popen", "run", "call", "check_call", "check_output", "Popen", "getoutput", "getstatusoutput")
_REPLACING = ("execv", "execvp", "execl", "execlp", "execve", "spawnl", "spawnv", "spawnlp", "spawnvp")
_DECODING = re.compile(r"b64decode|fromhex|unhexlify|zlib|marshal|codecs|a2b_|rot13")
_LITERAL = r"(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`)"
_OTHER = re.compile(
    rf"\b(?:system|exec|execSync|spawnSync|spawn|popen|shell_exec|passthru|proc_open|qx|IO\.popen)\s*[({{]?\s*{_LITERAL}"
)
_BACKTICKS = re.compile(r"`([^`\n]+)`")
_QX = re.compile(r"\bqx\s*[{(/]([^})/]+)[})/]")
_SOCKET = re.compile(r"(?i)socket|fsockopen|TCPSocket|net\.connect|net\.createConnection")
_SHELL_WORD = re.compile(r"/(?:usr/)?bin/(?:ba|da|z|k)?sh\b|\b(?:ba)?sh -i\b|pty\.spawn|cmd\.exe")
_FORKING = re.compile(r"fork\s+while\s+(?:fork|1|true)|while\b[^\n]{0,20}:?\s*(?:os\.)?fork\(\)|fork\(\)\s*while")
_AWK_SYSTEM = re.compile(r"\bsystem\s*\(\s*(\"(?:[^\"\\]|\\.)*\")?")
_AWK_READ = re.compile(r"\"((?:[^\"\\]|\\.)*)\"\s*\|\s*getline")
_AWK_WRITE = re.compile(r"\|\s*\"((?:[^\"\\]|\\.)*)\"")


@dataclass
class Within:
    """The shell texts and commands that a program runs, the shells it feeds, the rules it breaks.

    `evaluates` says that it runs text of its own making, which may be what it fetched.
    """

    texts: list[str] = field(default_factory=list)
    commands: list[tuple[str, ...]] = field(default_factory=list)
    fed: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)
    evaluates: bool = False


def within(language: str, code: str) -> Within:
    """What the program would run. Nothing is said of what it computes."""
    found = _awk(code) if language in ("awk", "gawk", "mawk", "nawk") else _program(language, code)
    if _SOCKET.search(code) and (_SHELL_WORD.search(code) or "dup2" in code):
        found.rules.append(secrets.REVERSE)
    if _FORKING.search(code):
        found.rules.append(rules.FORK_BOMB)
    return found


def _program(language: str, code: str) -> Within:
    if language.startswith("python"):
        try:
            return _Python(code).found
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass
    found = Within([_unquoted(text) for text in _OTHER.findall(code)])
    if language in ("perl", "ruby", "php"):
        found.texts += _BACKTICKS.findall(code) + _QX.findall(code)
    found.evaluates = bool(re.search(r"\beval\b", code))
    return found


def _awk(code: str) -> Within:
    texts = [_unquoted(text) if text else UNKNOWN for text in _AWK_SYSTEM.findall(code)]
    return Within(texts + _AWK_READ.findall(code), fed=_AWK_WRITE.findall(code))


def _unquoted(literal: str) -> str:
    return re.sub(r"\\(.)", r"\1", literal[1:-1])


class _Python:
    """The calls in a program in Python."""

    def __init__(self, code: str) -> None:
        self.found = Within()
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Call):
                self._call(node, _called(node.func))

    def _call(self, node: ast.Call, name: str) -> None:
        first = node.args[0] if node.args else None
        if name in ("exec", "eval"):
            self._evaluated(first)
        elif name in _CALLS and first is not None:
            self._run(_constant(first))
        elif name in _REPLACING:
            words = [word for arg in node.args[1:] for word in _words(_constant(arg))]
            self.found.commands.append(tuple(words) or (UNKNOWN,))
        elif name == "rmtree" and first is not None:
            self.found.commands.append(("rm", "-rf", *_words(_constant(first))))
        elif name in ("open", "remove", "unlink", "read_text", "Path") and first is not None:
            self.found.commands.append((":", *_words(_constant(first))))
        elif name == "kill":
            self.found.rules += [machine.STOPS] if _constant(first) in (1, -1) else []
        elif name == "setuid":
            self.found.rules.append(machine.PRIVILEGE)

    def _run(self, value: object) -> None:
        if isinstance(value, str):
            self.found.texts += [value] if value != UNKNOWN else []  # much else is called `run`
        elif isinstance(value, list) and value:
            self.found.commands.append(tuple(_words(value)))

    def _evaluated(self, node: ast.expr | None) -> None:
        if node is None:
            return
        source = ast.unparse(node)
        self.found.evaluates = self.found.evaluates or not isinstance(node, ast.Constant)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                inner = _Python(node.value).found
            except (SyntaxError, ValueError):
                return
            self.found.texts += inner.texts
            self.found.commands += inner.commands
            self.found.rules += inner.rules
        elif _DECODING.search(source):
            self.found.rules.append(rules.UNKNOWN_COMMAND)


def _called(func: ast.expr) -> str:
    if isinstance(func, ast.Attribute):
        return func.attr
    return func.id if isinstance(func, ast.Name) else ""


def _constant(node: ast.expr | None) -> object:
    """A literal's value, with what is not literal as unknown."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _constant(node.operand)
        return -value if isinstance(value, int) else UNKNOWN
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_constant(element) for element in node.elts]
    if isinstance(node, ast.JoinedStr):
        return "".join(str(_constant(part)) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _constant(node.left), _constant(node.right)
        return left + right if isinstance(left, str) and isinstance(right, str) else UNKNOWN
    if isinstance(node, ast.Call) and node.args and _called(node.func) in ("expanduser", "expandvars", "Path", "str"):
        return re.sub("^~|\\$HOME", "/home/user", str(_constant(node.args[0])))
    return UNKNOWN


def _words(value: object) -> list[str]:
    if isinstance(value, list):
        return [str(word) for word in value]
    return [value] if isinstance(value, str) else [UNKNOWN]
