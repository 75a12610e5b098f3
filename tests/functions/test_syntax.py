"""The few signs of how a question is built."""

import pytest

from functions import syntax
from functions.tokens import tokens


def texts(text: str) -> list[str]:
    """A text as its words."""
    return [token.text for token in tokens(text)]


@pytest.mark.parametrize(
    ("text", "verb"),
    [
        ("Is sleep affected by coffee?", "affected"),
        ("When was the tower built?", "built"),
        ("Are limited companies taxed?", "taxed"),
        ("Quand la loi a-t-elle été votée ?", "votee"),
        ("Le chat est-il mangé par la souris ?", "mange"),
        ("Does coffee affect sleep?", None),
        ("What is the speed of light?", None),
        ("Le chat mange-t-il la souris ?", None),
        ("What does was mean", None),
        ("", None),
    ],
)
def test_the_verb_of_a_passive_is_found(text: str, verb: str | None) -> None:
    """And none in the active."""
    at = syntax.participle(list(tokens(text)))
    assert (None if at is None else texts(text)[at]) == verb


def test_a_passive_is_turned_as_the_active_says_it() -> None:
    """Who acts, what is done, to whom, and the rest."""
    found = syntax.turned(
        ["sleep", "affect", "coffee", "spain"], {"sleep": 1, "affect": 2, "coffee": 4, "spain": 6},
        texts("is sleep affected by coffee in spain"), 2,
    )  # fmt: skip
    assert found == ["coffee", "affect", "sleep", "spain"]
    assert syntax.turned(["sleep"], {"sleep": 0}, ["sleep", "was"], 1) == []


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("git: undo a commit", 1),
        ("La tour Eiffel, construite quand ?", 3),
        ("undo a commit", 0),
        ("see https://example.com/a for more", 0),
        ("a question: yes", 0),
        ("one two three four five six seven: is it long", 0),
        ("1,5 euros in dollars", 0),
    ],
)
def test_a_topic_is_what_is_set_off_in_front(text: str, length: int) -> None:
    """By a colon or a comma, if it is short and something follows."""
    assert syntax.topic(text) == length


def test_owners_are_those_with_an_apostrophe() -> None:
    """Folded, as tokens are."""
    assert syntax.owners("Peru's capital and Zoë\u2019s age") == {"peru", "zoe"}


@pytest.mark.parametrize(
    ("text", "whether"),
    [
        ("Les oiseaux volent-ils ?", True),
        ("Le vin a-t-il un âge ?", True),
        ("Quel âge a-t-il ?", False),
        ("Que mangent-ils ?", False),
        ("les oiseaux", False),
        ("week-end", False),
    ],
)
def test_french_word_order_asks_whether(text: str, whether: bool) -> None:
    """Unless a word asks for more."""
    assert syntax.asks_whether(text, texts(text)) is whether


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("a used car", True),
        ("used cars", True),
        ("buy used phones", True),
        ("a car is used in Rome", False),
        ("what is it used for", False),
        ("the used", False),
    ],
)
def test_what_is_used_may_be_second_hand(text: str, used: bool) -> None:
    """Only before the thing itself."""
    found = texts(text)
    assert syntax.second_hand(found, found.index("used")) is used


@pytest.mark.parametrize(
    ("text", "equal"),
    [
        ("is it as fast as Go", True),
        ("est-il aussi rapide que Go", True),
        ("as soon as possible", False),
        ("dogs as well as cats", False),
        ("as", False),
    ],
)
def test_as_much_as_is_no_comparative(text: str, equal: bool) -> None:
    """Nor are some other pairs of «as»."""
    assert syntax.equal(texts(text)) is equal


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("combien de clients compte Acme", True),
        ("combien sur mon compte", False),
        ("compte Acme", False),
    ],
)
def test_what_counts_is_no_account(text: str, counts: bool) -> None:
    """Behind «combien», and nobody's."""
    found = texts(text)
    assert syntax.counts(found, found.index("compte")) is counts


@pytest.mark.parametrize(
    ("text", "instructs"),
    [
        ("how to undo a commit", True),
        ("How do I undo a commit?", True),
        ("Comment annuler un commit ?", True),
        ("How do cats hunt?", False),
        ("Comment les chats chassent ?", False),
    ],
)
def test_who_asks_how_to_acts_himself(text: str, instructs: bool) -> None:
    """Not how others do."""
    assert syntax.instructs(text) is instructs


def test_words_side_by_side_are_no_sentence() -> None:
    """What one types for a search engine."""
    assert syntax.is_telegraphic(texts("tourists japan 2024"))
    assert not syntax.is_telegraphic(texts("did tourists visit japan"))
    assert not syntax.is_telegraphic(texts("troops that France invaded"))


@pytest.mark.parametrize(
    ("text", "negation"),
    [
        ("non-EU countries", "word"),
        ("pays hors UE", "word"),
        ("countries that are not in the EU", "being"),
        ("why isn't Norway in the EU", "being"),
        ("why is Norway not in the EU", "being"),
        ("pays qui ne sont pas dans l'UE", "being"),
        ("countries that do not use the euro", "doing"),
        ("quels sont les pays qui n'utilisent pas l'euro", "doing"),
        ("not now", "doing"),
    ],
)
def test_a_negation_is_of_a_word_or_of_what_is_or_is_done(text: str, negation: str) -> None:
    """The nearest auxiliary before it tells."""
    found = texts(text)
    at = next(at for at, word in enumerate(found) if word in ("non", "hors", "not", "pas"))
    assert syntax.negation(found, at) == negation
