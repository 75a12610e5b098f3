"""A question in pieces: words, numbers, addresses, paths, sums. What they mean is for `reading`."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from functions.quantities import is_year, number, scaled
from functions.vocabulary import fold, marks

TLDS = "com|org|net|io|dev|ai|fr|gov|edu|co|uk|eu|app|de|ch|be|ca|info|xyz|tech|me"
TOKEN = re.compile(
    rf"""(?P<url>https?://[^\s<>"')\]]+|(?<![\w.+-])[\w.+-]{{1,64}}@[\w.-]{{1,250}}\w|(?<![a-z0-9.-])(?:[a-z0-9-]{{1,63}}\.){{1,9}}(?:{TLDS})\b(?:/[^\s<>"')\]]*)?)
    |(?P<path>(?<![\w/])~?/\w[\w.-]*(?:/[\w.-]+)*)
    |(?P<day>\b\d{{4}}-\d\d-\d\d\b|\b\d{{1,2}}[/.]\d{{1,2}}[/.]\d{{4}}\b)
    |(?P<sum>\d[\d.,]*(?:\s*[-+*/\u00d7÷^\u2212<>=]\s*\(?\d[\d.,]*\)?)+)
    |(?P<slashed>\b(?<![\w.-])(?=[\d.-]{{0,50}}[a-z])[\w.-]{{1,100}}/(?=[\d.-]{{0,50}}[a-z])[\w.-]{{1,100}}\b)
    |(?P<number>(?:(?<![\w)])[-\u2212])?
        (?:\d{{1,3}}(?:[ '\u00a0\u202f]\d{{3}})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,]\d+)*))(?P<tail>°?[a-z]\w*)?
    |(?P<word>[^\W\d_](?:\w|\.(?=\w))*(?:\+\+|\#)?|°[a-z]|[€$£¥%])""",
    re.VERBOSE | re.IGNORECASE,
)  # fmt: skip
# What is one word in one language and none in the other, before anything is split at an apostrophe.
REWRITTEN = [
    (re.compile(r"[\u2019\u02bc\u2018`]"), "'"),
    (re.compile(r"\b(ca)n't\b", re.IGNORECASE), r"\1n not"),
    (re.compile(r"\bwon't\b", re.IGNORECASE), "will not"),
    (re.compile(r"n't\b", re.IGNORECASE), " not"),
    # Folded, they would be one with what they earn.
    (re.compile(r"\bsalari(?=ée?s?\b)", re.IGNORECASE), "employ"),
    (re.compile(r"\bl'or\b", re.IGNORECASE), "gold"),
    (re.compile(r"\bn'(?=\w)", re.IGNORECASE), "ne "),
    (re.compile(r"\b(?:[ldcjmts]|qu|jusqu|lorsqu|puisqu)'(?=\w)", re.IGNORECASE), " "),
    (re.compile(r"'s\b|s'(?=\s|$)|'(?=\D)"), " "),
    (re.compile(r"([€$£¥])\s?(\d[\d.,]*(?:\s?(?:k|bn|million|billion)\b)?)"), r"\2 \1"),
    (re.compile(r"\b([A-Za-z]{2,})(\d+(?:\.\d+)+)"), r"\1 \2"),
    # «turn the heating down» turns down the heating.
    (
        re.compile(r"\b((?:turn|switch)(?:s|es|ed|ing)?)\s((?:\w+\s){1,3}?)(on|off|up|down)\b", re.IGNORECASE),
        r"\1 \3 \2",
    ),
    (re.compile(r"\b(?:or not|ou pas|ou non)\b", re.IGNORECASE), " "),
]
# Written for quotes and accents; they say nothing.
UNSAID = "`\u00b4\u00a8"
# ASCII counts these as punctuation, and programs do not.
SPOKEN = re.compile(r"[*\\@#]|&&|--+|!(?==)")
ORDINAL = {"st", "nd", "rd", "th", "er", "re", "e", "eme", "nde"}
SCALES = {"k": 1000, "bn": 10**9}


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text: of which group of TOKEN, as it is written, and folded."""

    group: str
    raw: str
    text: str


def signs(text: str) -> str:
    """What stands between the pieces and says something all the same, in its order: 🇫🇷, ∞, ||, >>."""
    left = " ".join(TOKEN.sub(" ", text).split())
    said = {found.start(): found[0] for found in SPOKEN.finditer(left)}
    symbols = {at: sign for at, sign in enumerate(left) if unicodedata.category(sign)[0] == "S" and sign not in UNSAID}
    return "".join(sign for _, sign in sorted({**said, **symbols}.items()))


def tokens(text: str) -> Iterator[Token]:
    """The text in pieces; a number with letters behind it is two, unless they are one word (4o, 3d)."""
    for pattern, by in REWRITTEN:
        text = pattern.sub(by, text)
    for found in TOKEN.finditer(text):
        group = found.lastgroup if found.lastgroup != "tail" else "number"
        raw, tail = found[str(group)], fold(found["tail"] or "")
        if not tail:
            yield Token(str(group), raw, fold(raw))
        elif tail in ORDINAL and raw.isdigit():
            yield Token("ordinal", raw, raw)
        elif tail == "s" and is_year(raw):
            yield Token("day", raw, f"{raw}s")
        elif tail in SCALES:
            yield Token("number", raw, scaled(number(raw), SCALES[tail]))
        elif tail in marks().units:
            yield from (Token("number", raw, raw), Token("word", tail, tail))
        else:
            yield Token("word", raw, f"{raw}{tail}")
