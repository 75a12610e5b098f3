"""Does it change a question that its facts stand in another order? Coffee's effect on sleep, sleep's on coffee."""

from functools import cache

from functions.reading import Reading
from functions.vocabulary import lexicon, stem, words

# Things whose order may matter.
ORDERED = {"name", "place", "unit", "number"}
WHO = {"who", "which"}
# For Algeria, against Algeria.
SIDES = {"for", "against"}
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


@cache
def remedies() -> frozenset[str]:
    """What is for the same that it is against, as facts: a vaccine."""
    known = {meaning[1].what for term in words().remedies if (meaning := lexicon().longest([term], 0))}
    return frozenset(known).union(stem(term, language) for term in words().remedies for language in ("en", "fr"))


def different_order(one: Reading, other: Reading) -> str | None:
    """Coffee's effect on sleep here, sleep's on coffee there.

    What has one role here has it there: to Paris is not from Paris, by Orwell not about Orwell.
    """
    if is_distance(one) and is_distance(other):
        return None
    if any(conflict(other.roles.get(fact, role), role) for fact, role in sides(one, other).items()):
        return "order"
    if gives(one, other) or gives(other, one) or holds_else(one, other):
        return "order"
    if one.either_order and other.either_order:
        return None
    return "order" if any(matters(x, y, one, other) for x, y in swapped(one, other)) else None


def is_distance(reading: Reading) -> bool:
    """From Mars to Earth it is as far as from Earth to Mars. What somebody does on the way may not be turned round."""
    between = [fact for fact, kind in reading.facts.items() if kind != "unit"]
    return "distance" in between and len(between) == 3


def sides(one: Reading, other: Reading) -> dict[str, str]:
    """Its roles; a vaccine for malaria takes no side."""
    cures = bool(remedies() & one.facts.keys() & other.facts.keys())
    return {fact: role for fact, role in one.roles.items() if not (cures and role in SIDES)}


def conflict(one: str, other: str) -> bool:
    """In France and of France may be one; in France and from France are not."""
    if SIDES & {one, other}:
        return {one, other} == SIDES
    return one != other and ("in" not in (one, other) or bool({"from", "to"} & {one, other}))


def gives(one: Reading, other: Reading) -> bool:
    """Whether who is given to here gives there."""
    return (
        one.transfers
        and other.transfers
        and any(fact not in other.attached for fact in one.recipients & set(other.order))
    )


def holds_else(one: Reading, other: Reading) -> bool:
    """Ubuntu in Docker here, Docker on Ubuntu there; dollars in euros, euros in dollars."""
    return held_alone(one, other) and held_alone(other, one)


def held_alone(one: Reading, other: Reading) -> bool:
    """Whether something holds here and does not there: a name, or what something comes from there."""
    alone = [fact for fact in one.held - other.held if fact in other.facts]
    return any(named(fact, one, other) or other.roles.get(fact) in ("of", "from") for fact in alone)


def named(fact: str, one: Reading, other: Reading) -> bool:
    """Whether it is a name or the like. What is one here only, by its capital, is the same thing there."""
    return bool({one.facts.get(fact), other.facts.get(fact)} & ORDERED)


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
    if bare(x, y, one, other):
        return True
    if freely(kinds, one, other):
        return False
    return {"opposite"} not in kinds and not {x, y} & (one.attached | other.attached)


def bare(x: str, y: str, one: Reading, other: Reading) -> bool:
    """«install Docker Ubuntu»: names without their preposition stand as they would with it, what holds behind."""
    if one.telegraphic == other.telegraphic or {x, y} & (one if one.telegraphic else other).attached:
        return False
    names = all("name" in (one.facts.get(fact), other.facts.get(fact)) for fact in (x, y))
    return names and bool({x, y} & (one.held | other.held))


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
    here, there = (binding(mine) - yours.roles.keys() for mine, yours in ((one, other), (other, one)))
    return x in here and y in there


def binding(reading: Reading) -> set[str]:
    """What is said to be of something, from it or to it."""
    return {fact for fact, role in reading.roles.items() if role in BINDING}
