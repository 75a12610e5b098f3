"""What a question says: each thing it names, as one fact, however it is written. No model, no network, no clock."""

import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache

from functions import syntax
from functions.quantities import is_year, number, scaled, spelt, unpadded
from functions.tokens import Token, signs, tokens
from functions.vocabulary import Lexicon, Meaning, evidence, lexicon, marks, stem, words

NO_REPOSITORY = {"and/or", "et/ou", "km/h", "m/s", "i/o", "w/o", "n/a"}
# Words with a capital in more than this share of a text: a headline, in which capitals say nothing.
HEADLINE_SHARE = 0.6
# Before these a «may» is the month.
MONTH_FOLLOWS = {"in", "of", "last", "next", "since", "until", "by", "early", "late", "mid"}
# Poles of one axis of `opposites`, as facts: «opposite: 3+» and «opposite: 3-».
POLES = str.maketrans("+-", "-+")
# How many of them there are is a count, how many euros a price.
COUNTED = {"unit: day", "unit: week", "unit: month", "unit: year"}
# Before whom something is given to.
TO = {"to", "à", "au", "aux"}
# Roles of what holds or receives something: in Docker, on Ubuntu, to Gmail.
HOLDING = {"in", "about", "to"}


@dataclass(slots=True)
class Reading:
    """A question as facts: what → of which kind (`number`, `date`, `name`, `place`, `unit`, `subject` …)."""

    language: str | None = None
    facts: dict[str, str] = field(default_factory=dict)
    # Questions' words, tenses and signs of direction compare in their own ways.
    asked: set[str] = field(default_factory=set)
    tenses: set[str] = field(default_factory=set)
    negated: bool = False
    # What a negation stands before, and how it negates: see `syntax.negation`.
    negates: dict[str, str] = field(default_factory=dict)
    directed: bool = False
    either_order: bool = False
    # As they come in the text, each once; without units and numbers that are bound to one another.
    order: list[str] = field(default_factory=list)
    # What stands behind from, to, by or about: flights to Paris are not flights from Paris.
    roles: dict[str, str] = field(default_factory=dict)
    # What something is in or on or goes to: Docker in «install Ubuntu in Docker».
    held: set[str] = field(default_factory=set)
    # To whom something is given: «à mon père» in «donner ma maison à mon père».
    recipients: set[str] = field(default_factory=set)
    quantifiers: set[str] = field(default_factory=set)
    transfers: bool = False
    # The order that the active would have, of a question in the passive; and whether it says who does it.
    turned: list[str] = field(default_factory=list)
    has_agent: bool = False
    active: bool = False
    # «How do I …»: who acts is nobody that is named. «price bitcoin»: no sentence, its order says little.
    instructs: bool = False
    telegraphic: bool = False
    # What a preposition attaches to the rest may stand elsewhere: the CEO of Tesla, in Firefox.
    attached: set[str] = field(default_factory=set)
    # Symbols that are no words: flags, operators, faces.
    signs: str = ""


# A lookup compares one question with a few remembered ones: it is read once for all of them.
@lru_cache(maxsize=256)
def read(text: str, spoken: str | None = None) -> Reading:
    """What the question says; in which language it is, where it does not tell itself, may be said too."""
    normal = unicodedata.normalize("NFKC", text)
    reading = Reader(normal, spoken).reading()
    reading.signs = signs(normal)
    return reading


class Reader:
    """Goes through the tokens once; each step takes some of them and adds what they say."""

    def __init__(self, text: str, spoken: str | None) -> None:
        self._text = text
        self._tokens = list(tokens(text))
        self._texts = [token.text for token in self._tokens]
        self._owners, self._topic = syntax.owners(text), syntax.topic(text)
        self._lexicon: Lexicon = lexicon()
        self._is_headline = self._capitals() > HEADLINE_SHARE
        self._role: str | None = None
        self._negation: str | None = None
        self._attaches = False
        # Where the token is that is being read, and where the noun would be that the last attached fact describes.
        self._at, self._described, self._is_attached = 0, -1, False
        self._where: dict[str, int] = {}
        self._converts = False
        self._read = Reading(language=language(self._texts))
        self._spoken = self._read.language or spoken

    def reading(self) -> Reading:
        """All facts of the text. A repository says where it is; that it is there need not be said."""
        self._state()
        while self._at < len(self._tokens):
            taken = self._take(self._at)
            self._at += taken
            if self._is_attached:
                self._described, self._is_attached = self._at, False
        if "repository" in self._read.facts.values():
            self._read.facts.pop("github", None)
        self._conclude()
        return self._read

    def _conclude(self) -> None:
        """What shows only when all is read."""
        self._leave_out_implied()
        self._ask()
        self._read.either_order = self._read.either_order or "distance" in self._read.facts
        if (verb := syntax.participle(self._tokens)) is not None:
            self._read.turned = syntax.turned(self._read.order, self._where, self._texts, verb)
            self._read.has_agent = syntax.has_agent(self._texts)
        self._compare()

    def _leave_out_implied(self) -> None:
        """How high a tax is asks for the tax."""
        read = self._read
        if syntax.asks_how_much(self._text):
            implied = {what for fact in read.facts for what in words().implied.get(fact, [])}
            read.facts = {fact: kind for fact, kind in read.facts.items() if fact not in implied}
            read.order = [fact for fact in read.order if fact in read.facts]

    def _ask(self) -> None:
        """What a unit that stands alone, or French word order, asks."""
        read = self._read
        units = {fact for fact in read.facts if fact.startswith("unit: ")}
        if self._converts and len(units) < 2 and units & COUNTED:
            read.asked.add("how many")
        if not read.asked - {"may"} and read.language == "fr" and syntax.asks_whether(self._text, self._texts):
            read.asked.add("whether")

    def _compare(self) -> None:
        """Slower than Rust is what Rust is faster than: of two things compared, the greater comes first."""
        read, than = self._read, [at for at, text in enumerate(self._texts) if text in ("than", "que")]
        poles = [fact for fact, kind in read.facts.items() if kind == "opposite"]
        things = [fact for fact in read.order if fact not in poles]
        if not than or len(poles) != 1 or len(things) != 2 or not poles[0].endswith("-"):
            return
        first, second = things
        if self._where[first] < than[-1] < self._where[second] and "number" not in read.facts.values():
            del read.facts[poles[0]]
            more = poles[0].translate(POLES)
            read.facts[more] = "opposite"
            read.order = [second, more, first]

    def _state(self) -> None:
        read, known = self._read, set(self._texts)
        read.directed = bool(known & marks().direction)
        read.either_order = bool(known & marks().either_order)
        # «Do cats …», but not «do you know …», which is one term.
        if self._texts and self._texts[0] in marks().inverted and self._taken(0) <= 1:
            read.asked.add("whether")
        read.instructs = syntax.instructs(self._text)
        read.telegraphic = syntax.is_telegraphic(self._texts)
        read.active = bool(known & syntax.ACTIVE)
        read.transfers = bool(known & marks().transfers)
        read.quantifiers = {marks().quantifiers[text] for text in known & marks().quantifiers.keys()}
        if syntax.equal(self._texts):
            read.facts["equally"] = "subject"
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
        if value == "1":
            # A mile in km is 1 mile in km.
            self._add("unit", unit)
            return taken
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
        self._role = self._role_of(token.text)
        self._attaches = self._attaches or token.text in marks().attaching
        if self._says_by_its_place(token, at):
            return 1
        found = self._lexicon.longest(self._texts, at)
        if found is None:
            self._unknown(at)
            return 1
        return self._spelt(at) if found[1].kind == "value" else self._term(at, *found)

    def _says_by_its_place(self, token: Token, at: int) -> bool:
        """Whether the word is no term here: by its capitals, or by what stands around it. Then it is read."""
        if not self._is_headline and (acronym := words().acronyms.get(token.raw)):
            self._add("place" if acronym in words().places else "name", acronym)
        elif token.text == "used" and syntax.second_hand(self._texts, at):
            self._add("subject", "second hand")
        elif token.text == "mars" and self._is_planet(at):
            self._add("name", "planet mars")
        else:
            return syntax.counts(self._texts, at) or (token.text == "may" and not self._is_month(at))
        return True

    def _term(self, at: int, taken: int, meaning: Meaning) -> int:
        # «How many euros is …» asks for a conversion, not for a count.
        if meaning.what == "how many" and self._unit(at + taken)[0]:
            self._converts = True
        else:
            self._known(meaning.kind, meaning.what)
        # The number of users: what stands behind a term may be attached by its last word.
        last = self._texts[at + taken - 1]
        self._attaches = self._attaches or last in marks().attaching
        self._role = self._role_of(last)
        return taken

    def _role_of(self, text: str) -> str | None:
        """What stands behind it has this role. The French «on» is somebody, and no preposition."""
        return self._role if (text, self._spoken) == ("on", "fr") else marks().roles.get(text, self._role)

    def _known(self, kind: str, what: str) -> None:
        if kind == "negation":
            self._read.negated = True
            self._negation = syntax.negation(self._texts, self._at)
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
        self._add("name" if says or any(map(str.isdigit, token.text)) else "subject", stem(token.text, self._spoken))

    def _is_planet(self, at: int) -> bool:
        """Mars is no month in English, and written small in French where it is one."""
        near = self._tokens[max(at - 1, 0) : at + 2]
        if any(token.group in ("number", "ordinal", "day") for token in near):
            return False
        return self._spoken == "en" or (self._tokens[at].raw == "Mars" and not self._is_headline)

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
        self._relate(key, kind)
        self._attach(key, kind)
        self._where.setdefault(key, self._at)
        if key not in self._read.order:
            self._read.order.append(key)

    def _relate(self, key: str, kind: str) -> None:
        """What the preposition and the negation before it make of it."""
        if self._role and (self._role != "in" or kind == "place"):
            self._read.roles.setdefault(key, self._role)
        if self._role in HOLDING:
            self._read.held.add(key)
        if self._negation:
            self._read.negates[key] = self._negation
        self._role = self._negation = None

    def _attach(self, key: str, kind: str) -> None:
        """A preposition's own and the noun that it describes; an owner; the topic that the question is set off from."""
        described = self._described == self._at and kind in ("subject", "number")
        if self._attaches or described or self._at < self._topic or self._texts[self._at] in self._owners:
            self._read.attached.add(key)
        if self._attaches and self._read.transfers and TO & set(self._texts[max(self._at - 2, 0) : self._at]):
            self._read.recipients.add(key)
        self._is_attached, self._attaches = self._attaches, False


def language(texts: list[str]) -> str | None:
    """`fr` or `en`, by the words that only one of them has; None when they do not tell."""
    counts = {name: sum(text in own for text in texts) for name, own in evidence().items()}
    first, second = sorted(counts, key=lambda name: counts[name], reverse=True)
    return first if counts[first] > counts[second] else None
