"""What a question says, as facts, and the pieces that they are read from."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.reading import language, read
from functions.tokens import tokens
from functions.vocabulary import split


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Price of BTC?", [("word", "price"), ("word", "of"), ("word", "btc")]),
        ("5km", [("number", "5"), ("word", "km")]),
        ("10 k€", [("number", "10"), ("word", "k"), ("word", "€")]),
        ("10k", [("number", "10000")]),
        ("$5", [("number", "5"), ("word", "$")]),
        ("20 %", [("number", "20"), ("word", "%")]),
        ("1st 2e 21st", [("ordinal", "1"), ("ordinal", "2"), ("ordinal", "21")]),
        ("the 1990s", [("word", "the"), ("day", "1990s")]),
        ("GPT-4o", [("word", "gpt"), ("word", "4o")]),
        ("H100", [("word", "h100")]),
        ("python3.12", [("word", "python"), ("number", "3.12")]),
        ("2024-05-03", [("day", "2024-05-03")]),
        ("03/05/2024", [("day", "03/05/2024")]),
        ("see https://a.example/b?c=d.", [("word", "see"), ("url", "https://a.example/b?c=d.")]),
        ("a.example.com/x", [("url", "a.example.com/x")]),
        ("ann@example.com", [("url", "ann@example.com")]),
        ("/etc/hosts", [("path", "/etc/hosts")]),
        ("~/notes.txt", [("path", "~/notes.txt")]),
        ("octo/cat", [("slashed", "octo/cat")]),
        ("3 + 4", [("sum", "3 + 4")]),
        ("l'or", [("word", "gold")]),
        ("qu'il n'est", [("word", "il"), ("word", "ne"), ("word", "est")]),
        ("can't won't isn't", [("word", x) for x in ("can", "not", "will", "not", "is", "not")]),
        ("Apple's", [("word", "apple")]),
        ("1\u202f000,5 €", [("number", "1 000,5"), ("word", "€")]),
    ],
)
def test_a_text_falls_into_pieces(text: str, pieces: list[tuple[str, str]]) -> None:
    """Each of one kind; what belongs together stays together."""
    found = [(token.group, token.text.replace("\u202f", " ")) for token in tokens(text)]
    assert found == pieces


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("price of bitcoin in 2021", {"price": "subject", "bitcoin": "name", "date: 2021": "date"}),
        ("What is the capital of France?", {"capital": "subject", "france": "place"}),
        ("5 miles", {"number: 5": "number", "unit: mile": "unit", "number: 5 mile": "number"}),
        ("2000 km", {"number: 2000": "number", "unit: km": "unit", "number: 2000 km": "number"}),
        ("in 2000", {"date: 2000": "date"}),
        ("1.5 million users", {"number: 1500000": "number", "user": "subject"}),
        ("deux cent mille", {"number: 200000": "number"}),
        ("3 May 2024", {"number: 3": "number", "date: month 5": "date", "date: 2024": "date"}),
        ("2024-05-03", {"number: 3": "number", "date: month 5": "date", "date: 2024": "date"}),
        ("May I leave", None),
        ("in May", {"date: month 5": "date"}),
        ("stars of octo/cat on github", {"star count": "subject", "repository: octo/cat": "repository"}),
        ("github.com/octo/cat.git", {"repository: octo/cat": "repository"}),
        ("https://github.com/octo/cat/issues", {"url: github.com/octo/cat/issues": "url"}),
        ("https://www.example.com/a/", {"url: example.com/a": "url"}),
        ("100 km/h", {"number: 100": "number", "unit: km/h": "unit"}),
        ("GDP of the US", {"gdp": "name", "united states": "place"}),
        ("tell us the GDP", {"gdp": "name"}),
        ("boiling point", {"boil": "subject", "temperature": "subject"}),
        ("who is Zorblan", {"zorblan": "name"}),
        ("who is zorblan", {"zorblan": "subject"}),
        ("Who Is The Zorblan King", {"zorblan": "subject", "king": "subject"}),
        ("", {}),
    ],
)
def test_a_question_says_its_facts(text: str, facts: dict[str, str] | None) -> None:
    """What it names, each of its kind; words that only ask say nothing."""
    found = read(text).facts
    assert found == facts if facts is not None else "date: month 5" not in found


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("When was it built?", {"when"}),
        ("In what year was it built?", {"when"}),
        ("Where and when was it built?", {"where", "when"}),
        ("How many moons has Mars?", {"how many"}),
        ("How many km is a mile?", set()),
        ("How do I boil an egg?", {"how"}),
        ("Pourquoi le ciel est bleu", {"why"}),
        ("où est le Louvre", {"where"}),
        ("le Louvre ou Orsay", set()),
    ],
)
def test_a_question_asks_for_something(text: str, asked: set[str]) -> None:
    """When, where, why, how many; a conversion counts nothing."""
    assert read(text).asked == asked


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("it does not start", True),
        ("it doesn't start", True),
        ("ça ne démarre pas", True),
        ("sans visa", True),
        ("it starts", False),
    ],
)
def test_a_question_may_be_negated(text: str, negated: bool) -> None:
    """In either language, also where it is shortened."""
    assert read(text).negated is negated


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("What is the price of gold?", "en"),
        ("Quel est le prix de l'or ?", "fr"),
        ("bitcoin price", "en"),
        ("prix bitcoin", "fr"),
        ("bitcoin", None),
        ("", None),
        ("docker compose nginx", None),
    ],
)
def test_a_question_is_asked_in_a_language(text: str, spoken: str | None) -> None:
    """Told by its small words; where there are none it is not guessed."""
    assert language(list(split(text))) == spoken


def test_a_unit_belongs_to_its_number() -> None:
    """5 miles in km is not 5 km in miles, though both name the same units and the same number."""
    assert "number: 5 mile" in read("5 miles in km").facts
    assert "number: 5 mile" not in read("5 km in miles").facts


def test_a_role_belongs_to_what_follows() -> None:
    """From where, to where; an article between them does not matter."""
    roles = read("from the United States to Paris").roles
    assert roles == {"united states": "from", "paris": "to"}


def test_what_holds_something_is_known() -> None:
    """In, on, to: not what is put there."""
    assert read("install Ubuntu in Docker").held == {"docker"}
    assert read("importer des contacts de Gmail dans Outlook").held == {"outlook"}
    assert read("un dollar en euros").held == {"unit: eur"}


def test_what_a_negation_stands_before_is_known() -> None:
    """And whether it is of that word alone."""
    assert read("non-EU countries with the euro").negates == {"european union": "word"}
    assert read("countries that do not use the euro").negates == {"unit: eur": "doing"}
    assert read("countries with the euro").negates == {}


def test_the_french_on_is_somebody() -> None:
    """And no preposition: «peut-on congeler» is not about freezing."""
    assert read("peut-on congeler du pain").roles.get("freeze") is None
    assert read("a book on bread").roles["bread"] == "about"


def test_what_tells_no_language_may_be_told_it() -> None:
    """Then its words lose the endings of that language."""
    assert read("adoption impôt loi", "fr").facts.keys() != read("licenciement", "en").facts.keys()
    assert read("licenciement", "fr").facts.keys() == read("licencier", "fr").facts.keys()
    assert read("licenciement", "en").facts.keys() != read("licencier", "en").facts.keys()


def test_what_is_compared_is_read_as_the_greater() -> None:
    """Of two things, and no number among them."""
    assert read("is Ruby slower than Python").order == read("is Python faster than Ruby").order
    assert read("files smaller than 5 MB").facts.keys() != read("files larger than 5 MB").facts.keys()


def test_how_high_a_tax_is_asks_for_the_tax() -> None:
    """And how high a tower is for its height."""
    assert "height" not in read("how high is the tax").facts
    assert "height" in read("how high is the tower").facts
    assert "height" in read("tax on the height").facts


def test_who_is_given_something_is_known() -> None:
    """Only where something is given."""
    assert read("vendre ma voiture à mon voisin").recipients == {"voisin"}
    assert not read("aller à la plage").recipients


def test_the_noun_behind_what_is_attached_is_attached() -> None:
    """One of them: of the Eiffel tower, but not what the tower does."""
    assert {"barrel", "roof"} <= read("height of the barrel roof").attached
    assert "zebra" not in read("in africa lions hunt zebra").attached


@settings(deadline=None)
@given(st.text(max_size=100))
def test_whatever_is_read_is_kept_in_order(text: str) -> None:
    """Every fact of the order is a fact, and stands there once."""
    found = read(text)
    assert set(found.order) <= found.facts.keys() | {"github"}
    assert len(found.order) == len(set(found.order))
