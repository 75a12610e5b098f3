"""The words that agreement knows: complete, none in two lists by mistake, found by the longest term."""

import json
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import functions
from functions.vocabulary import Meaning, Words, evidence, fold, lexicon, marks, plain, split, stem, words

# One list for another's words: of these kinds a term has one meaning only.
ONE_MEANING = ("places", "names", "units", "relative_dates", "concepts")


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Été", "ete"),
        ("ŒUVRE", "oeuvre"),
        ("où", "où"),
        ("à Paris", "à paris"),
        ("Français", "francais"),
        ("e\u0301te\u0301", "ete"),
        ("STRASSE", "strasse"),
        ("°C", "°c"),
    ],
)
def test_folding_takes_capitals_and_accents(text: str, folded: str) -> None:
    """But for the two that tell French words apart."""
    assert fold(text) == folded


@given(st.text(max_size=40))
def test_folding_twice_is_folding_once(text: str) -> None:
    """Terms and questions meet folded, however often it was done."""
    assert fold(fold(text)) == fold(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("What's up", ("what", "s", "up")),
        ("C++ and C#", ("c++", "and", "c#")),
        ("node.js.", ("node.js",)),
        ("États-Unis", ("etats", "unis")),
        ("5%", ("5", "%")),
        ("", ()),
    ],
)
def test_a_term_is_its_words(text: str, found: tuple[str, ...]) -> None:
    """Signs between words say nothing; those that belong to a name do."""
    assert split(text) == found


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("price", "prices"),
        ("city", "cities"),
        ("run", "running"),
        ("stop", "stopped"),
        ("bake", "baking"),
        ("voiture", "voitures"),
    ],
)
def test_plain_endings_do_not_matter(one: str, other: str) -> None:
    """Plurals, and the endings of regular verbs."""
    assert stem(one) == stem(other)


@pytest.mark.parametrize(
    ("one", "other", "language"),
    [
        ("licencier", "licenciement", "fr"),
        ("licencie", "licenciee", "fr"),
        ("migrer", "migration", "fr"),
        ("infirmier", "infirmiere", "fr"),
        ("abolie", "abolition", "fr"),
        ("adopt", "adoption", None),
        ("evict", "eviction", "en"),
    ],
)
def test_a_verb_and_its_noun_are_one(one: str, other: str, language: str | None) -> None:
    """In French by the endings of its verbs; in both languages what ends in -ion."""
    assert stem(one, language) == stem(other, language)


@pytest.mark.parametrize(
    ("one", "other", "language"),
    [
        ("teacher", "teach", "en"),
        ("station", "state", "en"),
        ("section", "sect", "en"),
        ("apartment", "apart", "en"),
        ("location", "local", "fr"),
    ],
)
def test_what_only_sounds_alike_is_not(one: str, other: str, language: str) -> None:
    """Short words keep -ion; English nouns keep -er and -ment."""
    assert stem(one, language) != stem(other, language)


def test_terms_are_found_by_plain_endings_alone() -> None:
    """A product is no production, though both come from one verb."""
    assert plain("prices") == plain("price")
    assert plain("production") != plain("product")
    assert lexicon().longest(["product"], 0) is None


@pytest.mark.parametrize(
    ("one", "other"), [("rust", "ruby"), ("iran", "iraq"), ("austria", "australia"), ("gas", "go")]
)
def test_other_words_stay_apart(one: str, other: str) -> None:
    """An ending is little: what is left still tells words apart."""
    assert stem(one) != stem(other)


@pytest.mark.parametrize("word", ["a", "is", "bus", "es", "ing", "été"])
def test_short_words_keep_their_letters(word: str) -> None:
    """There would be nothing left to compare."""
    assert stem(word) == word


@pytest.mark.parametrize(
    ("text", "length", "meaning"),
    [
        ("new york city weather", 3, Meaning("place", "new york")),
        ("btc", 1, Meaning("name", "bitcoin")),
        ("most expensive hotel", 2, Meaning("opposite", f"{[0]}")),
        ("how many people live here", 4, Meaning("subject", "population")),
        ("semaine derniere", 2, Meaning("date", "last week")),
        ("aout", 1, Meaning("date", "month 8")),
        ("seconde guerre mondiale", 3, Meaning("name", "world war 2")),
        ("seconde", 1, Meaning("number", "#2")),
        ("pricing", 1, Meaning("subject", "price")),
    ],
)
def test_the_longest_term_is_found(text: str, length: int, meaning: Meaning) -> None:
    """Before a shorter one that begins at the same word; a word of no list by its stem."""
    found = lexicon().longest(text.split(), 0)
    assert found is not None
    assert found[0] == length
    assert found[1].kind == meaning.kind
    if meaning.kind != "opposite":
        assert found[1] == meaning


def test_what_is_in_no_list_is_not_found() -> None:
    """It stays a word of its own."""
    assert lexicon().longest(["xylophone"], 0) is None
    assert lexicon().longest(["the", "xylophone"], 1) is None


@pytest.mark.parametrize("name", ONE_MEANING)
def test_a_term_has_one_meaning_in_its_list(name: str) -> None:
    """Else the second would never be found, and its question never agree."""
    seen: dict[tuple[str, ...], str] = {}
    for what, terms in getattr(words(), name).items():
        for term in terms:
            assert seen.setdefault(split(term), what) == what, term


def test_no_term_is_empty() -> None:
    """A comma too many."""
    text = (files(functions) / "words.json").read_text()
    lists = [found for found in strings(json.loads(text)) if "," in found]
    assert lists
    assert [found for found in lists if any(not split(term) for term in found.split(","))] == []


def strings(value: object) -> list[str]:
    """All strings of a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    return [found for one in value for found in strings(one)] if isinstance(value, list) else [str(value)]


def test_poles_are_apart() -> None:
    """No word stands at both ends of an axis."""
    for one, other in words().opposites:
        assert not {split(term) for term in one} & {split(term) for term in other}


def test_the_languages_have_words_of_their_own() -> None:
    """What both have tells nothing."""
    assert not evidence()["fr"] & evidence()["en"]
    assert {"the", "where"} <= evidence()["en"]
    assert {"le", "où"} <= evidence()["fr"]


def test_what_people_leave_out_is_no_mark() -> None:
    """Roles and directions are single words, found in the text as they are."""
    assert marks().roles["from"] == marks().roles["depuis"] == "from"
    assert marks().roles["from"] != marks().roles["to"]
    assert {"to", "vers"} <= marks().direction
    assert {"km", "€", "m"} <= marks().units


def test_what_is_implied_is_a_fact_that_may_be_left_out() -> None:
    """Each measure implies what «how high» and its like would ask, which are concepts."""
    for what, implied in words().implied.items():
        assert set(implied) <= words().concepts.keys(), what


def test_no_quantifier_is_both() -> None:
    """All is not some, and no word is both."""
    assert marks().quantifiers["all"] == marks().quantifiers["tous"] == "all"
    assert not set(words().all) & set(words().some)


def test_a_file_that_makes_no_sense_is_not_read() -> None:
    """A list too many or too few is seen at once."""
    written = json.loads((files(functions) / "words.json").read_text())
    for wrong in (written | {"colours": "red"}, {name: written[name] for name in list(written)[1:]}):
        with pytest.raises(ValidationError):
            Words.model_validate(wrong)
