"""How a question is built: who acts in the passive, what a comparison sets against what, whose a thing is.

No grammar of a language: a few signs that tell two orders of the same words apart, or show them to be one.
"""

import re

from functions.tokens import Token, tokens
from functions.vocabulary import fold, marks

PASSIVE = {"is", "are", "was", "were", "be", "been", "being", "est", "sont", "etait", "etaient", "ete", "etre"}
# Signs of a clause whose subject acts: coffee in «does coffee affect sleep», who in «who beat Spain».
ACTIVE = {"do", "does", "did", "who", "qui", "which", "can", "could", "will", "would", "should", "may", "t"}
BEING = {"is", "are", "was", "were", "est", "sont", "etait", "etaient"}
DOING = {"do", "does", "did", "have", "has", "had", "can", "could", "will", "would", "should", "may", "must", "ne"}
# They negate a word, not what is done.
PREFIXES = {"non", "hors"}
AGENT = {"by", "par"}
# They end as participles do.
NO_PARTICIPLE = {"hundred", "indeed", "united", "speed", "need", "feed", "seed", "breed"}
OWNER = re.compile(r"\b(\w{1,60})['\u2019]s\b")
# «Berlin: rent or buy?», «La tour Eiffel, construite quand ?»
TOPIC = re.compile(r"([^:,;?!]{1,40}?)(?:\s?:|,)\s+(?=\S+\s+\S)")
LONGEST_TOPIC = 6
# «peut-il», «ont-elles», «a-t-on»: a question in French, unless a word asks.
INVERTED = re.compile(r"\w-(?:t-)?(?:ils?|elles?|on|je|tu|nous|vous|ce)\b(?! que)", re.IGNORECASE)
HOW_MUCH = re.compile(r"\bhow (?:high|much|long|big|large)\b", re.IGNORECASE)
INSTRUCTS = re.compile(
    r"\bhow (?:to|(?:do|can|could|should|would) (?:i|you|we|one))\b|\bcomment (?:faire pour )?\w+(?:er|ir|re)\b",
    re.IGNORECASE,
)
ASKING = {"que", "quoi", "quel", "quelle", "quels", "quelles", "lequel", "laquelle", "lesquels", "lesquelles"}
# Without any of these a text is no sentence.
SENTENCE = PASSIVE | ACTIVE | ASKING | {
    "the", "a", "an", "that", "whom", "what", "how", "when", "where", "why", "has", "have",
    "dont", "le", "la", "les", "un", "une", "ont", "comment", "quand", "où", "pourquoi", "combien",
}  # fmt: skip
FRONTED = {"which", "what", "quels", "quelles", "quel", "quelle"}
ACCOUNTS = {"mon", "ton", "son", "un", "le", "ce", "notre", "votre", "leur", "de"}
ARTICLES = {"a", "an", "the", "of", "for", "any", "buy", "buying", "sell", "selling"}


def owners(text: str) -> set[str]:
    """Who has something: Einstein in «Einstein's opinion»."""
    return {fold(owner) for owner in OWNER.findall(text)}


def topic(text: str) -> int:
    """How many tokens stand before the question itself, set off by a colon or a comma."""
    found = TOPIC.match(text) if ":" in text or "," in text else None
    length = len(list(tokens(found[1]))) if found else 0
    return length if length <= LONGEST_TOPIC else 0


def asks_whether(text: str, texts: list[str]) -> bool:
    """Whether a French text turns verb and subject round, and no word of it asks for more."""
    return INVERTED.search(text) is not None and not ASKING & set(texts)


def asks_how_much(text: str) -> bool:
    """How high, how long: of a measure it asks nothing more than its name does."""
    return HOW_MUCH.search(text) is not None


def instructs(text: str) -> bool:
    """Whether somebody wants to be told how to do it."""
    return INSTRUCTS.search(text) is not None


def is_telegraphic(texts: list[str]) -> bool:
    """Words side by side, as for a search engine."""
    return not SENTENCE & set(texts)


def participle(tokens: list[Token]) -> int | None:
    """Where the passive's verb stands; None when nothing is done to anything."""
    texts = [token.text for token in tokens]
    if "ete" in texts[:-1]:
        return texts.index("ete") + 1
    first = next((at for at, text in enumerate(texts) if text in PASSIVE), len(texts))
    by = texts.index("par") if "par" in texts else -1
    found = [at for at in range(first + 1, len(texts)) if is_participle(tokens[at], by_whom=at < by)]
    return found[-1] if found else None


def is_participle(token: Token, *, by_whom: bool) -> bool:
    """Eaten, affected; in French only with who did it: «mangées par»."""
    if token.text in marks().participles:
        return True
    if by_whom:
        return re.search(r"[éiut]e?s?$", token.raw.lower()) is not None and len(token.raw) > 3
    return token.text.endswith("ed") and len(token.text) > 4 and token.text not in NO_PARTICIPLE


def turned(order: list[str], where: dict[str, int], texts: list[str], verb: int) -> list[str]:
    """The facts as the active would say them: «is sleep affected by coffee» is coffee, affect, sleep."""
    if verb not in where.values():
        return []
    by = next((at for at in range(verb + 1, len(texts)) if texts[at] in AGENT), len(texts))
    end = next((at for at in range(by + 1, len(texts)) if texts[at] in marks().attaching), len(texts))
    places = [(fact, where[fact]) for fact in order]
    # «Which companies were bought by …» keeps what it asks for in front: «which companies did … buy».
    patient = -1 if texts[0] in FRONTED else 2
    ranks = [(0 if by < at < end else 1 if at == verb else patient if at < verb else 3) for _, at in places]
    return [fact for _, (fact, _) in sorted(zip(ranks, places, strict=True), key=lambda ranked: ranked[0])]


def has_agent(texts: list[str]) -> bool:
    """Whether it is said by whom."""
    return bool(AGENT & set(texts))


def equal(texts: list[str]) -> bool:
    """As fast as, aussi rapide que: no comparative, though it has the same words."""
    return any(
        (texts[at] == "as" and texts[at + 2] == "as" and texts[at + 1] not in ("soon", "well", "long", "far"))
        or (texts[at] == "aussi" and texts[at + 2] == "que")
        for at in range(len(texts) - 2)
    )


def negation(texts: list[str], at: int) -> str:
    """Non-EU countries: a `word`; countries that are not in the EU: `being`; that do not use the euro: `doing`."""
    if texts[at] in PREFIXES:
        return "word"
    auxiliary = next((text for text in reversed(texts[:at]) if text in BEING | DOING), "")
    return "being" if auxiliary in BEING else "doing"


def counts(texts: list[str], at: int) -> bool:
    """«Combien de salariés compte Siemens»: no account, «mon compte»."""
    before = texts[at - 1] if at else ""
    return texts[at] in ("compte", "comptent") and "combien" in texts[:at] and before not in ACCOUNTS


def second_hand(texts: list[str], at: int) -> bool:
    """A used car: «used» before what it describes, not «used for» and not «is used»."""
    before = texts[at - 1] if at else "a"
    after = texts[at + 1] if at + 1 < len(texts) else "to"
    return before in ARTICLES and after not in marks().attaching and after not in ("by", "as", "on", "often", "most")
