"""The words that `agreement` and `freshness` know, in French and English: `words.json`, and how a word is looked up."""

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

import functions

# Two letters that French tells words apart by («ou» is or, «où» is where) keep their accent.
KEPT = {"à", "ù"}
WORD = re.compile(r"[^\W\d_](?:\w|\.(?=\w))*(?:\+\+|#)?|°\w|\d+\w*|[€$£¥%]")
# Plurals and the plainest endings of verbs; what is left must be a word still.
ENDINGS = re.compile(r"(?<=\w{3})(?:ies|ings?|ed|es|s|x|e|y)$")
# Of French words: how verbs end, and nouns made of them; «teacher» and «teach» are two in English.
FRENCH_ENDINGS = re.compile(r"(?<=\w{4})(?:ations?|itions?|ements?|ieres?|iers?|er|ez|ent|is?|ie|ies|ir|it)$")
# Of both languages: adoption, adopt. Shorter words keep it: station, section.
NOUN_ENDING = re.compile(r"(?<=\w{5})ions?$")
DOUBLED = re.compile(r"([bdgmnprt])\1$")

Terms = Annotated[list[str], BeforeValidator(lambda text: [term.strip() for term in text.split(",")])]


class Words(BaseModel):
    """The file. Each string is a list of terms, separated by commas; a term may be several words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    light: dict[str, Terms]
    languages: dict[str, Terms]
    acronyms: dict[str, str]
    negation: Terms
    questions: dict[str, Terms]
    tenses: dict[str, Terms]
    direction: Terms
    roles: dict[str, Terms]
    inverted: Terms
    attaching: Terms
    all: Terms
    some: Terms
    transfers: Terms
    participles: Terms
    attributes: Terms
    acts: Terms
    remedies: Terms
    implied: dict[str, Terms]
    either_order: Terms
    relative_dates: dict[str, Terms]
    months: list[Terms]
    numbers: dict[int, Terms]
    ordinals: list[Terms]
    units: dict[str, Terms]
    unit_letters: dict[str, str]
    names: dict[str, Terms]
    places: dict[str, Terms]
    opposites: list[tuple[Terms, Terms]]
    concepts: dict[str, Terms]
    freshness: dict[str, Terms]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a term stands for: of a kind (`number`, `name`, `light` …), and which."""

    kind: str
    what: str


@cache
def words() -> Words:
    """The words of this tree. Raises ValidationError for a file that makes no sense."""
    return Words.model_validate_json((files(functions) / "words.json").read_bytes())


def fold(text: str) -> str:
    """Small letters without accents, but for the two that tell French words apart."""
    small = unicodedata.normalize("NFC", text).casefold().replace("œ", "oe").replace("æ", "ae")
    return "".join(letter if letter in KEPT else unicodedata.normalize("NFD", letter)[0] for letter in small)


def split(text: str) -> tuple[str, ...]:
    """A text's words, folded."""
    return tuple(WORD.findall(fold(text)))


def stem(word: str, language: str | None = None) -> str:
    """A word without its plain endings: prices, price → pric. Not a word; only fit to be compared.

    What is French loses the endings of French verbs too: licencier, licenciement, licencié → licenc.
    """
    verb = FRENCH_ENDINGS.sub("", word) if language == "fr" else word
    short = plain(NOUN_ENDING.sub("", verb))
    if language == "fr":
        short = FRENCH_ENDINGS.sub("", short)
    return DOUBLED.sub(r"\1", short) if short != word else word


def plain(word: str) -> str:
    """A word without its plain endings alone: a product is no production."""
    short = ENDINGS.sub("", ENDINGS.sub("", word)) if len(word) > 3 else word
    return DOUBLED.sub(r"\1", short) if short != word else word


def single(terms: list[str]) -> frozenset[str]:
    """The terms that are one word, folded."""
    return frozenset(found[0] for term in terms if len(found := split(term)) == 1)


@dataclass(frozen=True, slots=True)
class Marks:
    """Single words that say something by being there."""

    direction: frozenset[str]
    either_order: frozenset[str]
    tenses: dict[str, frozenset[str]]
    roles: dict[str, str]
    inverted: frozenset[str]
    attaching: frozenset[str]
    units: frozenset[str]
    quantifiers: dict[str, str]
    transfers: frozenset[str]
    participles: frozenset[str]


@cache
def marks() -> Marks:
    """Made once, when they are first asked for."""
    known = words()
    return Marks(
        direction=single(known.direction),
        either_order=single(known.either_order),
        tenses={tense: single(terms) for tense, terms in known.tenses.items()},
        roles={word: role for role, terms in known.roles.items() for word in single(terms)},
        inverted=single(known.inverted),
        attaching=single(known.attaching),
        quantifiers={word: name for name in ("all", "some") for word in single(getattr(known, name))},
        transfers=single(known.transfers),
        participles=single(known.participles),
        units=frozenset(known.unit_letters).union(*map(single, known.units.values())),
    )


@cache
def evidence() -> dict[str, frozenset[str]]:
    """Words that say in which language a question is asked: each language's, without those that both have."""
    known = {language: single(words().light[language] + words().languages[language]) for language in words().light}
    return {language: own - frozenset().union(*(known[other] for other in known if other != language))
            for language, own in known.items()}  # fmt: skip


def meanings() -> list[tuple[list[str], Meaning]]:
    """All terms; where two say the same word, the first counts."""
    known = words()
    return [
        *((terms, Meaning("place", what)) for what, terms in known.places.items()),
        *((terms, Meaning("name", what)) for what, terms in known.names.items()),
        *((terms, Meaning("date", what)) for what, terms in known.relative_dates.items()),
        *((terms, Meaning("date", f"month {at}")) for at, terms in enumerate(known.months, 1)),
        *((terms, Meaning("value", str(value))) for value, terms in known.numbers.items()),
        *((terms, Meaning("number", f"#{at}")) for at, terms in enumerate(known.ordinals, 2)),
        *((terms, Meaning("unit", what)) for what, terms in known.units.items()),
        *((terms, Meaning("opposite", f"{at}{pole}"))
          for at, poles in enumerate(known.opposites) for pole, terms in zip("+-", poles, strict=True)),
        *((terms, Meaning("question", what)) for what, terms in known.questions.items()),
        (known.negation, Meaning("negation", "not")),
        *((terms, Meaning("light", "")) for terms in known.light.values()),
        *((terms, Meaning("subject", what)) for what, terms in known.concepts.items()),
    ]  # fmt: skip


class Lexicon:
    """The terms by their words: the longest that begins somewhere in a text is found by `longest`."""

    def __init__(self, entries: list[tuple[list[str], Meaning]]) -> None:
        self._terms: dict[tuple[str, ...], Meaning] = {}
        self._stems: dict[str, Meaning] = {}
        for terms, meaning in entries:
            for term in terms:
                self._terms.setdefault(split(term), meaning)
        for words, meaning in self._terms.items():
            if len(words) == 1 and len(words[0]) > 3 and meaning.kind in ("opposite", "subject", "unit"):
                self._stems.setdefault(plain(words[0]), meaning)
        self._longest = max(map(len, self._terms))

    def longest(self, text: list[str], at: int) -> tuple[int, Meaning] | None:
        """How many words from `at` on are a term, and its meaning."""
        for length in range(min(self._longest, len(text) - at), 0, -1):
            if found := self._terms.get(tuple(text[at : at + length])):
                return length, found
        known = self._stems.get(plain(text[at])) if len(text[at]) > 3 else None
        return (1, known) if known else None


@cache
def lexicon() -> Lexicon:
    """Made once, when it is first asked."""
    return Lexicon(meanings())
