"""How old an answer may be, by the kind of question: one table. The words that tell the kind are in `words.json`."""

from functools import cache

from functions.vocabulary import split, words

MINUTE = 60
DAY = 24 * 60 * MINUTE
# The first kind that a question names is its kind; one that names none is of the last.
MAX_AGE_SECONDS = {"live": MINUTE, "prices": 5 * MINUTE, "default": DAY}


def max_age_seconds(query: str) -> int:
    """How old an answer to this question may be. What a request says itself (`max_age`) is not looked at here."""
    return MAX_AGE_SECONDS[kind(query)]


def kind(query: str) -> str:
    """The kind of a question: `live`, `prices` or `default`."""
    asked = split(query)
    return next((kind for kind in words().freshness if names(asked, kind)), "default")


def names(asked: tuple[str, ...], kind: str) -> bool:
    """Whether one of the kind's terms stands in the question, word for word."""
    terms = terms_of(kind)
    lengths = {len(term) for term in terms}
    return any(asked[at : at + length] in terms for length in lengths for at in range(len(asked) - length + 1))


@cache
def terms_of(kind: str) -> frozenset[tuple[str, ...]]:
    """A kind's terms, each as its words."""
    return frozenset(split(term) for term in words().freshness[kind])
