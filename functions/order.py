"""Does it change a question that its facts stand in another order? Coffee's effect on sleep, sleep's on coffee."""

from functools import cache

from functions.reading import Reading
from functions.vocabulary import lexicon, words

# Things whose order may matter.
ORDERED = {"name", "place", "unit", "number"}
WHO = {"who", "which"}
BINDING = {"of", "from", "to"}
# Their two arguments may not change places, whatever attaches them: an effect is of one thing on another.
RELATIONS = {"effect", "causing"}


@cache
def attributes() -> frozenset[str]:
    """What a thing has and does nothing by: its price, its age. It may stand before the thing or behind."""
    return frozenset(words().attributes)


@cache
def acts() -> frozenset[str]:
    """Those poles of `opposites` that somebody does to something, as facts."""
    found = (lexicon().longest([term], 0) for term in words().acts)
    return frozenset(f"opposite: {meaning[1].what}" for meaning in found if meaning)


def different_order(one: Reading, other: Reading) -> str | None:
    """Coffee's effect on sleep here, sleep's on coffee there.

    What has one role here has it there: to Paris is not from Paris, by Orwell not about Orwell.
    """
    if any(conflict(other.roles.get(fact, role), role) for fact, role in one.roles.items()):
        return "order"
    if gives(one, other) or gives(other, one):
        return "order"
    if one.either_order and other.either_order:
        return None
    return "order" if any(matters(x, y, one, other) for x, y in swapped(one, other)) else None


def conflict(one: str, other: str) -> bool:
    """In France and of France may be one; in France and from France are not."""
    return one != other and ("in" not in (one, other) or bool({"from", "to"} & {one, other}))


def gives(one: Reading, other: Reading) -> bool:
    """Whether who is given to here gives there."""
    return (
        one.transfers
        and other.transfers
        and any(fact not in other.attached for fact in one.recipients & set(other.order))
    )


def said(reading: Reading, other: Reading) -> list[str]:
    """Its facts in order, as the active says them where the other does or it is told who acts."""
    as_active = reading.turned and not other.turned and (reading.has_agent or other.active)
    return reading.turned if as_active else reading.order


def swapped(one: Reading, other: Reading) -> list[tuple[str, str]]:
    """What stands the other way round there. Dates go anywhere."""
    dates = {fact for fact, kind in one.facts.items() if kind == "date"}
    places = {fact: at for at, fact in enumerate(said(other, one))}
    shared = [fact for fact in said(one, other) if fact in places and fact not in dates]
    return [(x, y) for at, x in enumerate(shared) for y in shared[at + 1 :] if places[x] > places[y]]


def matters(x: str, y: str, one: Reading, other: Reading) -> bool:
    """Whether it changes the question when these two change places."""
    if related := RELATIONS & one.facts.keys() & other.facts.keys():
        return matters_to(related, x, y, one, other)
    # What is a name on one side only, by its capital, is the same thing on the other.
    kinds = [{one.facts.get(fact), other.facts.get(fact)} for fact in (x, y)]
    if (one.directed or other.directed) and all(kind & ORDERED for kind in kinds):
        return True
    if exchanged(x, y, one, other) or exchanged(y, x, one, other):
        return True
    # Who bought it here, whom it bought there.
    if WHO & one.asked & other.asked and {x, y} & acts() and {"name", "place"} & (kinds[0] | kinds[1]):
        return True
    # An adjective and its noun, an attribute and what has it, and what a preposition attaches, change places freely.
    if (x in attributes()) != (y in attributes()):
        return False
    if freely(kinds, one, other):
        return False
    return {"opposite"} not in kinds and not {x, y} & (one.attached | other.attached)


def freely(kinds: list[set[str | None]], one: Reading, other: Reading) -> bool:
    """A tool in «how do I …», a place among words that are no sentence: it says where, and does nothing."""
    named, placed = ([bool(kind & which) for kind in kinds] for which in ({"name", "place"}, {"place"}))
    if one.instructs or other.instructs:
        return named[0] != named[1]
    if one.directed or other.directed:
        return False
    return (one.telegraphic or other.telegraphic) and placed[0] != placed[1]


def matters_to(related: set[str], x: str, y: str, one: Reading, other: Reading) -> bool:
    """What acts and what it acts on keep their order; the verb's own place tells where one alone is named."""
    arguments = [
        fact for fact in one.order if fact in other.order and fact not in related and not loose(fact, one, other)
    ]
    if {x, y} & related:
        return len(arguments) < 2 and not {x, y} & (one.attached | other.attached)
    return not loose(x, one, other) and not loose(y, one, other)


def loose(fact: str, one: Reading, other: Reading) -> bool:
    """Whether it only says where or of which kind: in adults, for men. An effect's «of» and «on» bind."""
    return any(fact in reading.attached and reading.roles.get(fact) not in ("of", "about") for reading in (one, other))


def exchanged(x: str, y: str, one: Reading, other: Reading) -> bool:
    """What Einstein thought of Bohr, and Bohr of Einstein: each is attached where the other is not.

    Or each has a role where the other has none: «de vim à emacs», «de emacs à vim».
    """
    if x in one.attached - other.attached and y in other.attached - one.attached:
        return True
    here, there = one.roles.keys() - other.roles.keys(), other.roles.keys() - one.roles.keys()
    return x in here and y in there and {one.roles[x], other.roles[y]} <= BINDING
