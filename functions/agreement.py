"""Do two questions ask the same? Similarity cannot tell: bitcoin and ethereum, 2024 and 2025, open and closed.

Both questions are read into facts (`reading`), and any fact that only one of them states speaks against it.
`docs/cache.md` says what this costs, and what it gets wrong.
"""

from functions.reading import Reading, read

# Below it two questions are not compared further: by model, since no two models' similarities compare.
# Chosen by `python -m bench cache`, for questions embedded as E5 wants them, with «query: » before them.
THRESHOLDS = {"multilingual-e5-small": 0.9077}
# What is reported when several things differ: the first of these.
KINDS = ("url", "repository", "path", "date", "number", "unit", "place", "name", "opposite", "subject")
# Things whose order may matter.
ORDERED = {"name", "place", "unit", "number"}
# Poles of one axis of `opposites`, as facts: «opposite: 3+» and «opposite: 3-».
POLES = str.maketrans("+-", "-+")
# They may be left out: «who is the CEO» and «the CEO», «how much is it» and «its price».
NEED_NOT_BE_SAID = {"who", "how much", "how", "what"}


def disagreement(asked: str, remembered: str) -> str | None:
    """The name of what differs between two questions, or None when nothing speaks against their being one.

    `language`, `negation`, `tense`, `question`, `opposite`, `order`, or a kind of fact: `url`, `repository`, `path`,
    `date`, `number`, `unit`, `place`, `name`, `subject`. The same both ways.
    """
    one, other = read(asked), read(remembered)
    if one.language and other.language and one.language != other.language:
        return "language"
    if one.negated != other.negated:
        return "negation"
    return (
        opposed(one, other)
        or different_fact(one, other)
        or different_question(one, other)
        or different_order(one, other)
    )


def opposed(one: Reading, other: Reading) -> str | None:
    """Open here, closed there. A question that names both poles opposes neither."""
    for fact, kind in one.facts.items():
        if kind != "opposite":
            continue
        against = fact.translate(POLES)
        if against in other.facts and against not in one.facts and fact not in other.facts:
            return "opposite"
    return None


def different_fact(one: Reading, other: Reading) -> str | None:
    """The kind of what only one of them states."""
    alone = {kind for fact, kind in one.facts.items() if fact not in other.facts}
    alone |= {kind for fact, kind in other.facts.items() if fact not in one.facts}
    return next((kind for kind in KINDS if kind in alone), None)


def different_question(one: Reading, other: Reading) -> str | None:
    """When here, where there; was here, is there."""
    if (one.asked ^ other.asked) - NEED_NOT_BE_SAID:
        return "question"
    if {"who", "how much"} <= one.asked ^ other.asked or what_or_how(one, other) or what_or_how(other, one):
        return "question"
    if len(one.tenses) == len(other.tenses) == 1 and one.tenses != other.tenses:
        return "tense"
    return None


def what_or_how(one: Reading, other: Reading) -> bool:
    """What it is here, how it is done there."""
    return "what" in one.asked and "how" in other.asked and "how" not in one.asked and "what" not in other.asked


def different_order(one: Reading, other: Reading) -> str | None:
    """From dollars to euros here, from euros to dollars there: only where a word gives the order a meaning.

    What has one role here has it there: to Paris is not from Paris, by Orwell not about Orwell.
    """
    if any(other.roles.get(fact, role) != role for fact, role in one.roles.items()):
        return "order"
    if (one.either_order and other.either_order) or not (one.directed or other.directed):
        return None
    # What is a name on one side only, by its capital, is the same thing on the other.
    ordered = {fact for reading in (one, other) for fact, kind in reading.facts.items() if kind in ORDERED}
    first, second = ([fact for fact in reading.order if fact in ordered] for reading in (one, other))
    return None if first == second else "order"
