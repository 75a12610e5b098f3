"""Do two questions ask the same? Similarity cannot tell: bitcoin and ethereum, 2024 and 2025, open and closed.

Both questions are read into facts (`reading`), and any fact that only one of them states speaks against it.
`docs/cache.md` says what this costs, and what it gets wrong.
"""

from functions.order import attributes, different_order, named
from functions.reading import POLES, Reading, read

# Below it two questions are not compared further: by model, since no two models' similarities compare.
# Chosen by `python -m bench cache`, for questions embedded as E5 wants them, with «query: » before them.
THRESHOLDS = {"multilingual-e5-small": 0.9216}
# What is reported when several things differ: the first of these.
KINDS = ("url", "repository", "path", "date", "number", "unit", "place", "name", "opposite", "subject")
# They may be left out: «who is the CEO» and «the CEO», «how much is it» and «its price».
NEED_NOT_BE_SAID = {"who", "how much", "how", "what", "whether", "which", "may"}
# But not one for the other: what Docker is, how it is used; whether cheese can be frozen, how it is done.
EITHER = (("who", "how much"), ("what", "how"), ("whether", "how"), ("whether", "which"), ("how", "which"))


def disagreement(asked: str, remembered: str) -> str | None:
    """The name of what differs between two questions, or None when nothing speaks against their being one.

    `language`, `negation`, `sign`, `quantifier`, `tense`, `question`, `opposite`, `order`, or a kind of fact: `url`,
    `repository`, `path`, `date`, `number`, `unit`, `place`, `name`, `subject`. The same both ways.
    """
    one, other = both(asked, remembered)
    return next((found for differs in CHECKS if (found := differs(one, other))), None)


def both(asked: str, remembered: str) -> tuple[Reading, Reading]:
    """Their readings; what tells no language («bitcoin») is read in the other's."""
    one, other = read(asked), read(remembered)
    if one.language is None and other.language:
        return read(asked, other.language), other
    if other.language is None and one.language:
        return one, read(remembered, one.language)
    return one, other


def different_language(one: Reading, other: Reading) -> str | None:
    """An answer is text: in French it is of no use to who asks in English."""
    return "language" if one.language and other.language and one.language != other.language else None


def different_negation(one: Reading, other: Reading) -> str | None:
    """With here, without there."""
    if one.negated != other.negated or negates_else(one, other) or negates_else(other, one):
        return "negation"
    return None


def negates_else(one: Reading, other: Reading) -> bool:
    """Non-EU countries with the euro here, EU countries without it there."""
    alone = [(fact, how) for fact, how in one.negates.items() if fact in other.facts and fact not in other.negates]
    if any(how == "word" for _, how in alone):
        return True
    # «Why isn't Norway in the EU» and «why is Norway not in the EU» negate the same: both say «is not».
    there = [(fact, how) for fact, how in other.negates.items() if fact in one.facts and fact not in one.negates]
    return any(
        mine != theirs and named(x, one, other) and named(y, one, other) for x, mine in alone for y, theirs in there
    )


def different_signs(one: Reading, other: Reading) -> str | None:
    """A flag, an operator, a face."""
    return "sign" if one.signs != other.signs else None


def different_quantifier(one: Reading, other: Reading) -> str | None:
    """All of them here, some of them there."""
    both = one.quantifiers | other.quantifiers
    return "quantifier" if both == {"all", "some"} and len(one.quantifiers) == len(other.quantifiers) else None


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
    if "may" in one.asked ^ other.asked and "whether" not in one.asked & other.asked:
        return "question"
    # Only what one of them asks, and the other does not.
    here, there = one.asked - other.asked, other.asked - one.asked
    if one.either_order and other.either_order:
        # Which is larger, X or Y; is X or Y larger.
        here, there = here - {"which"}, there - {"which"}
    if any((first in here and second in there) or (second in here and first in there) for first, second in EITHER):
        return "question"
    return "tense" if different_tense(one, other) or held_before(one, other) or held_before(other, one) else None


def different_tense(one: Reading, other: Reading) -> bool:
    """Was here, is there. What tomorrow is and will be is one, since the date says when."""
    if not len(one.tenses) == len(other.tenses) == 1:
        return False
    dated = {fact for fact, kind in one.facts.items() if kind == "date"} & other.facts.keys()
    both = one.tenses | other.tenses
    return len(both) == 2 and not (dated and both == {"present", "future"})


def held_before(one: Reading, other: Reading) -> bool:
    """Who was its CEO here, its CEO there: without a word of when, the second asks for today's."""
    if one.tenses != {"past"} or other.tenses or "when" in one.asked:
        return False
    changing = attributes() & one.facts.keys()
    return bool(changing) and not {"date", "number", "opposite"} & set(one.facts.values())


CHECKS = (
    different_language,
    different_negation,
    different_signs,
    different_quantifier,
    opposed,
    different_fact,
    different_question,
    different_order,
)
