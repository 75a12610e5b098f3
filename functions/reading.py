"""What a question says: each thing it names, as one fact, however it is written. No model, no network, no clock."""

import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache

from functions.quantities import is_year, number, scaled, spelt, unpadded
from functions.tokens import Token, signs, tokens
from functions.vocabulary import Lexicon, evidence, lexicon, marks, stem, words

NO_REPOSITORY = {"and/or", "et/ou", "km/h", "m/s", "i/o", "w/o", "n/a"}
# Words with a capital in more than this share of a text: a headline, in which capitals say nothing.
HEADLINE_SHARE = 0.6
# Before these a «may» is the month.
MONTH_FOLLOWS = {"in", "of", "last", "next", "since", "until", "by", "early", "late", "mid"}


@dataclass(slots=True)
class Reading:
    """A question as facts: what → of which kind (`number`, `date`, `name`, `place`, `unit`, `subject` …)."""

    language: str | None = None
    facts: dict[str, str] = field(default_factory=dict)
    # Questions' words, tenses and signs of direction compare in their own ways.
    asked: set[str] = field(default_factory=set)
    tenses: set[str] = field(default_factory=set)
    negated: bool = False
    directed: bool = False
    either_order: bool = False
    # As they come in the text, each once; without units and numbers that are bound to one another.
    order: list[str] = field(default_factory=list)
    # What stands behind from, to, by or about: flights to Paris are not flights from Paris.
    roles: dict[str, str] = field(default_factory=dict)
    # What a preposition attaches to the rest may stand elsewhere: the CEO of Tesla, in Firefox.
    attached: set[str] = field(default_factory=set)
    # Symbols that are no words: flags, operators, faces.
    signs: str = ""


# A lookup compares one question with a few remembered ones: it is read once for all of them.
@lru_cache(maxsize=256)
def read(text: str) -> Reading:
    """What the question says."""
    normal = unicodedata.normalize("NFKC", text)
    reading = Reader(list(tokens(normal))).reading()
    reading.signs = signs(normal)
    return reading


class Reader:
    """Goes through the tokens once; each step takes some of them and adds what they say."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._texts = [token.text for token in tokens]
        self._lexicon: Lexicon = lexicon()
        self._is_headline = self._capitals() > HEADLINE_SHARE
        self._role: str | None = None
        self._attaches = False
        self._read = Reading(language=language(self._texts))

    def reading(self) -> Reading:
        """All facts of the text. A repository says where it is; that it is there need not be said."""
        self._state()
        at = 0
        while at < len(self._tokens):
            at += self._take(at)
        if "repository" in self._read.facts.values():
            self._read.facts.pop("github", None)
        return self._read

    def _state(self) -> None:
        read, known = self._read, set(self._texts)
        read.directed = bool(known & marks().direction)
        read.either_order = bool(known & marks().either_order)
        # «Do cats …», but not «do you know …», which is one term.
        if self._texts and self._texts[0] in marks().inverted and self._taken(0) <= 1:
            read.asked.add("whether")
        read.tenses = {tense for tense, terms in marks().tenses.items() if known & terms}

    def _taken(self, at: int) -> int:
        found = self._lexicon.longest(self._texts, at)
        return found[0] if found else 0

    def _take(self, at: int) -> int:
        token = self._tokens[at]
        if token.group == "number":
            return self._number(at)
        if token.group == "word":
            return self._word(at)
        self._literal(token)
        return 1

    def _literal(self, token: Token) -> None:
        if token.group == "ordinal":
            self._add(
                "opposite" if token.text == "1" else "number", "3+" if token.text == "1" else f"#{unpadded(token.text)}"
            )
        elif token.group == "day":
            self._day(token.text)
        elif token.group == "url":
            self._url(token.text)
        elif token.group == "sum":
            self._add("number", re.sub(r"\s|[.,]$", "", token.text))
        elif token.text in NO_REPOSITORY:
            self._add("unit", token.text)
        else:
            self._add("repository" if token.group == "slashed" else "path", token.text.rstrip("."))

    def _day(self, text: str) -> None:
        """2024-05-03 says what «3 May 2024» says; 03/05/2024 may be March or May, and only says itself."""
        parts = text.split("-")
        if len(parts) == 1:
            self._add("date", text)
            return
        self._add("date", parts[0])
        self._add("date", f"month {int(parts[1])}")
        self._add("number", str(int(parts[2])))

    def _url(self, text: str) -> None:
        address = re.sub(r"^https?://|(?<=//)www\.|^www\.", "", text).rstrip("/.,;:!?").removeprefix("www.")
        repository = re.fullmatch(r"(?:github|gitlab)\.com/([\w.-]+/[\w.-]+?)(?:\.git)?", address)
        self._add("repository" if repository else "url", repository[1] if repository else address)

    def _number(self, at: int) -> int:
        value, taken = number(self._texts[at]), 1
        found = self._lexicon.longest(self._texts, at + 1) if at + 1 < len(self._texts) else None
        while found and found[1].kind == "value" and int(found[1].what) >= 100:
            value, taken = scaled(value, int(found[1].what)), taken + found[0]
            found = self._lexicon.longest(self._texts, at + taken) if at + taken < len(self._texts) else None
        return taken + self._quantity(value, at + taken, may_be_year=taken == 1 and is_year(value))

    def _quantity(self, value: str, at: int, may_be_year: bool = False) -> int:
        """A number, bound to the unit behind it: 5 miles in km is not 5 km in miles. Returns the tokens taken."""
        unit, taken = self._unit(at)
        if may_be_year and not unit:
            self._add("date", value)
            return 0
        if not unit:
            self._add("number", value)
            return 0
        # Not through `_add`: what is bound needs no order.
        self._read.facts |= {f"number: {value}": "number", f"unit: {unit}": "unit", f"number: {value} {unit}": "number"}
        return taken

    def _unit(self, at: int) -> tuple[str | None, int]:
        if at >= len(self._texts):
            return None, 0
        if letter := words().unit_letters.get(self._texts[at]):
            return letter, 1
        found = self._lexicon.longest(self._texts, at)
        return (found[1].what, found[0]) if found and found[1].kind == "unit" else (None, 0)

    def _word(self, at: int) -> int:
        token = self._tokens[at]
        if not self._is_headline and (acronym := words().acronyms.get(token.raw)):
            self._add("place" if acronym in words().places else "name", acronym)
            return 1
        found = self._lexicon.longest(self._texts, at)
        self._role = marks().roles.get(token.text, self._role)
        self._attaches = self._attaches or token.text in marks().attaching
        if found is None or (token.text == "may" and not self._is_month(at)):
            if token.text != "may":
                self._unknown(at)
            return 1
        if found[1].kind == "value":
            return self._spelt(at)
        # «How many euros is …» asks for a conversion, not for a count.
        if found[1].what != "how many" or not self._unit(at + found[0])[0]:
            self._known(found[1].kind, found[1].what)
        return found[0]

    def _known(self, kind: str, what: str) -> None:
        if kind == "negation":
            self._read.negated = True
        elif kind == "question":
            self._read.asked.add(what)
        elif kind != "light":
            for part in what.split(" + "):
                self._add(kind, part)

    def _spelt(self, at: int) -> int:
        values, taken = [], 0
        while found := self._lexicon.longest(self._texts, at + taken) if at + taken < len(self._texts) else None:
            if found[1].kind != "value":
                break
            values.append(int(found[1].what))
            taken += found[0]
        return taken + self._quantity(spelt(values), at + taken)

    def _unknown(self, at: int) -> None:
        """A word of no list: a name if a capital says so, though not at the text's beginning."""
        token = self._tokens[at]
        says = token.raw[:1].isupper() and not self._is_headline and at > 0
        self._add("name" if says or any(map(str.isdigit, token.text)) else "subject", stem(token.text))

    def _is_month(self, at: int) -> bool:
        near = self._tokens[max(at - 1, 0) : at + 2]
        return any(token.group in ("number", "ordinal") for token in near) or near[0].text in MONTH_FOLLOWS

    def _capitals(self) -> float:
        written = [token.raw for token in self._tokens if token.group == "word"]
        return sum(raw[:1].isupper() for raw in written) / len(written) if len(written) > 3 else 0

    def _add(self, kind: str, what: str) -> None:
        key = what if kind in ("subject", "name", "place") else f"{kind}: {what}"
        # A name here may be written small there: what counts is the word, its kind only says what to call it.
        if self._read.facts.get(key) != "name":
            self._read.facts[key] = kind
        if self._role:
            self._read.roles.setdefault(key, self._role)
            self._role = None
        if self._attaches:
            self._read.attached.add(key)
            self._attaches = False
        if key not in self._read.order:
            self._read.order.append(key)


def language(texts: list[str]) -> str | None:
    """`fr` or `en`, by the words that only one of them has; None when they do not tell."""
    counts = {name: sum(text in own for text in texts) for name, own in evidence().items()}
    first, second = sorted(counts, key=lambda name: counts[name], reverse=True)
    return first if counts[first] > counts[second] else None
