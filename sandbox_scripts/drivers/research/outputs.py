"""What the small programs print whose answer follows from what they are given."""

from __future__ import annotations

import base64
import binascii
import codecs
import itertools
import re
import string

from . import escapes
from .values import UNKNOWN, made_of, marked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .simple import Simple

LONGEST_SCRIPT = 200
_FORMAT = re.compile(r"%(?:%|[-+ #0]*\d*(?:\.\d+)?([a-zA-Z]))")
_PASSING = (
    *("cat", "tee", "head", "tail", "sort", "uniq", "grep", "egrep", "fgrep", "fold", "nl", "tac", "stdbuf", "pv"),
    *("sponge", "dd", "more", "less", "column", "fmt", "iconv", "dos2unix"),
)
_CLASSES = {
    "[:upper:]": string.ascii_uppercase,
    "[:lower:]": string.ascii_lowercase,
    "[:alpha:]": string.ascii_uppercase + string.ascii_lowercase,
    "[:digit:]": string.digits,
    "[:space:]": " \t\n\r\v\f",
}


def printed(simple: Simple) -> str:
    """Its standard output; the mark for what it is made of where that cannot be said."""
    maker = _MAKERS.get(simple.name)
    if maker is not None and (text := maker(simple)) is not None:
        return text
    if simple.name in _PASSING and simple.stdin is not None:
        return simple.stdin
    return made_of(simple.stdin or "")


def formatted(arguments: tuple[str, ...]) -> str:
    """What `printf` makes of a format and its arguments."""
    if not arguments:
        return ""
    form, rest = arguments[0], list(arguments[1:])
    directives = [match for match in _FORMAT.finditer(form) if match[1]]
    texts = [escapes.decoded(_FORMAT.sub(_taking(rest), form))]
    while rest and directives:
        texts.append(escapes.decoded(_FORMAT.sub(_taking(rest), form)))
    return "".join(texts)


def echoed(simple: Simple) -> str:
    """`echo`, with its options."""
    words = list(simple.arguments)
    options = "".join(itertools.takewhile(lambda word: re.fullmatch("-[neE]+", word), words))
    text = " ".join(itertools.dropwhile(lambda word: re.fullmatch("-[neE]+", word), words))
    if "e" in options:
        text = escapes.decoded(text).split("\x03")[0]
    return text if "n" in options else text + "\n"


def decoded(text: str, way: str) -> str | None:
    """Base64, base32 or hexadecimal as the bytes it stands for; None when it is not."""
    if marked(text):
        return made_of(text)
    packed = "".join(text.split())
    ways = {"base32": base64.b32decode, "hex": bytes.fromhex}
    try:
        data = ways[way](packed) if way in ways else base64.b64decode(packed + "=" * (-len(packed) % 4))
    except (ValueError, binascii.Error):
        return None
    return data.decode("utf-8", "replace")


def _taking(rest: list[str]) -> _Taking:
    return _Taking(rest)


class _Taking:
    def __init__(self, rest: list[str]) -> None:
        self._rest = rest

    def __call__(self, match: re.Match[str]) -> str:
        if match[1] is None:
            return "%"
        value = self._rest.pop(0) if self._rest else ""
        if match[1] == "c":
            return value[:1]
        if match[1] in "xXodiu" and value.isdigit():
            return format(int(value), {"i": "d", "u": "d"}.get(match[1], match[1]))
        return value.replace("\\", "\\\\") if match[1] != "b" else value


def _echo(simple: Simple) -> str:
    return echoed(simple)


def _printf(simple: Simple) -> str:
    words = simple.arguments[1:] if simple.arguments[:1] == ("--",) else simple.arguments
    return formatted(words)


def _base64(simple: Simple) -> str | None:
    if simple.has("-d", "-D", "--decode") and simple.stdin is not None:
        return decoded(simple.stdin, simple.name)
    return None


def _openssl(simple: Simple) -> str | None:
    if {"base64", "enc", "-base64", "-a"} & set(simple.arguments) and "-d" in simple.arguments and simple.stdin:
        return decoded(simple.stdin, "base64")
    return None


def _xxd(simple: Simple) -> str | None:
    if simple.has("-r") and simple.stdin is not None:
        return decoded(simple.stdin, "hex")
    return None


def _rev(simple: Simple) -> str | None:
    return None if simple.stdin is None else "\n".join(line[::-1] for line in simple.stdin.split("\n"))


def _tr(simple: Simple) -> str | None:
    sets = [_characters(word) for word in simple.operands()]
    if simple.stdin is None or not sets or marked("".join(sets)):
        return None
    if simple.has("-d"):
        return simple.stdin.translate({ord(one): None for one in sets[0]})
    if len(sets) < 2 or simple.has("-c", "-C"):
        return simple.stdin
    return simple.stdin.translate(
        {ord(one): other for one, other in zip(sets[0], sets[1].ljust(len(sets[0]), sets[1][-1:]))}
    )


def _characters(text: str) -> str:
    for name, members in _CLASSES.items():
        text = text.replace(name, members)
    spread = re.sub(r"(.)-(.)", lambda m: "".join(map(chr, range(ord(m[1]), ord(m[2]) + 1))), escapes.decoded(text))
    return spread if len(spread) < 1000 else UNKNOWN


def _sed(simple: Simple) -> str | None:
    """Only `s/a/b/` without patterns; anything else passes on what it may leave as it is."""
    words = simple.operands(("-e",))
    script = simple.value("-e") or (words[0] if words else "")
    match = re.fullmatch(r"s(.)(.*?)\1(.*?)\1(g?)", script[:LONGEST_SCRIPT], re.DOTALL)
    if simple.stdin is None or match is None or re.search(r"[][.*^$\\&+?(){}]", match[2] + match[3]):
        return None
    lines = simple.stdin.split("\n")
    return "\n".join(line.replace(match[2], match[3], -1 if match[4] else 1) for line in lines)


def _pwd(simple: Simple) -> str:
    return simple.standing + "\n"


def _rot(simple: Simple) -> str | None:
    return None if simple.stdin is None else codecs.encode(simple.stdin, "rot13")


def _silent(_: Simple) -> str:
    return ""


def _name_of(simple: Simple) -> str | None:
    words = simple.operands()
    return words[0].rsplit("/", 1)[-1] + "\n" if words else None


def _text_of_file(simple: Simple) -> str | None:
    return UNKNOWN if any(word != "-" for word in simple.operands()) else None


_MAKERS = {
    "echo": _echo,
    "printf": _printf,
    "base64": _base64,
    "base32": _base64,
    "openssl": _openssl,
    "xxd": _xxd,
    "rev": _rev,
    "tr": _tr,
    "sed": _sed,
    "pwd": _pwd,
    "rot13": _rot,
    "basename": _name_of,
    **dict.fromkeys(("cd", "true", "false", ":", "set", "export", "mkdir", "touch", "rm", "sleep", "chmod"), _silent),
}
