"""Do two questions ask the same? Similarity cannot tell: bitcoin and ethereum, 2024 and 2025, open and closed.

Both questions are read into facts (`reading`), and any fact that only one of them states speaks against it.
`docs/cache.md` says what this costs, and what it gets wrong.
"""

from functions.reading import Reading, read

# Below it two questions are not compared further: by model, since no two models' similarities compare.
# Chosen by `python -m bench cache`, for questions embedded as E5 wants them, with «query: » before them.
THRESHOLDS = {"multilingual-e5-small": 0.9216}
# What is reported when several things differ: the first of these.
KINDS = ("url", "repository", "path", "date", "number", "unit", "place", "name", "opposite", "subject")
# Things whose order may matter.
ORDERED = {"name", "place", "unit", "number"}
# Poles of one axis of `opposites`, as facts: «opposite: 3+» and «opposite: 3-».
POLES = str.maketrans("+-", "-+")
# They may be left out: «who is the CEO» and «the CEO», «how much is it» and «its price».
NEED_NOT_BE_SAID = {"who", "how much", "how", "what", "whether"}
# But not one for the other: what Docker is, how it is used; whether cheese can be frozen, how it is done.
EITHER = (("who", "how much"), ("what", "how"), ("whether", "how"))


def disagreement(asked: str, remembered: str) -> str | None:
    """The name of what differs between two questions, or None when nothing speaks against their being one.

    `language`, `negation`, `sign`, `tense`, `question`, `opposite`, `order`, or a kind of fact: `url`, `repository`,
    `path`, `date`, `number`, `unit`, `place`, `name`, `subject`. The same both ways.
    """
    one, other = read(asked), read(remembered)
    if one.language and other.language and one.language != other.language:
        return "language"
    if one.negated != other.negated:
        return "negation"
    if one.signs != other.signs:
        return "sign"
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
    # Only what one of them asks, and the other does not.
    here, there = one.asked - other.asked, other.asked - one.asked
    if any((first in here and second in there) or (second in here and first in there) for first, second in EITHER):
        return "question"
    if len(one.tenses) == len(other.tenses) == 1 and one.tenses != other.tenses:
        return "tense"
    return None


def different_order(one: Reading, other: Reading) -> str | None:
    """Coffee's effect on sleep here, sleep's on coffee there.

    What has one role here has it there: to Paris is not from Paris, by Orwell not about Orwell.
    """
    if any(other.roles.get(fact, role) != role for fact, role in one.roles.items()):
        return "order"
    if one.either_order and other.either_order:
        return None
    dates = {fact for fact, kind in one.facts.items() if kind == "date"}
    places = {fact: at for at, fact in enumerate(other.order)}
    shared = [fact for fact in one.order if fact in places and fact not in dates]
    swapped = ((x, y) for at, x in enumerate(shared) for y in shared[at + 1 :] if places[x] > places[y])
    return "order" if any(matters(x, y, one, other) for x, y in swapped) else None


def matters(x: str, y: str, one: Reading, other: Reading) -> bool:
    """Whether it changes the question when these two change places."""
    # What is a name on one side only, by its capital, is the same thing on the other.
    kinds = [{one.facts.get(fact), other.facts.get(fact)} for fact in (x, y)]
    if (one.directed or other.directed) and all(kind & ORDERED for kind in kinds):
        return True
    if exchanged(x, y, one, other) or exchanged(y, x, one, other):
        return True
    # An adjective and its noun, and what a preposition attaches, change places freely.
    return {"opposite"} not in kinds and not {x, y} & (one.attached | other.attached)


def exchanged(x: str, y: str, one: Reading, other: Reading) -> bool:
    """What Einstein thought of Bohr, and Bohr of Einstein: each is attached where the other is not."""
    return x in one.attached - other.attached and y in other.attached - one.attached
