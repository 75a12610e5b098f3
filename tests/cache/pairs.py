"""The labelled pairs of questions: `pairs.json`, in two halves. `docs/cache.md` says how they were made."""

import hashlib
import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path

FILE = Path(__file__).with_name("pairs.json")
# Written after the rules, measured once, and then used to correct them: no longer unseen.
LATER = tuple(Path(__file__).with_name(name) for name in ("second.json", "third.json", "fourth.json", "fifth.json"))


@dataclass(frozen=True)
class Pair:
    """Two questions, and whether one answer serves both; if not, what sets them apart."""

    language: str
    asked: str
    remembered: str
    same: bool
    kind: str
    half: str


def crossed(file: Path) -> list[tuple[str, str]]:
    """Each paraphrase of a question with each that only looks like the question: more pairs that are not the same."""
    groups = json.loads(file.read_text())
    return [
        (other, paraphrase)
        for group in groups
        for other, paraphrase in product(group["different"].values(), group["same"])
    ]


def half(question: str) -> str:
    """Which half a question and all that is paired with it belong to: decided by its hash, not by us."""
    return ("tuned", "held")[hashlib.sha256(question.encode()).digest()[0] % 2]


def pairs(file: Path = FILE) -> list[Pair]:
    """Each question with its paraphrases, and with those that only look alike."""
    found = []
    for group in json.loads(file.read_text()):
        question, language = group["question"], group["language"]
        others = [(other, True, "same") for other in group["same"]]
        others += [(other, False, kind.strip()) for kind, other in group["different"].items()]
        found += [Pair(language, other, question, same, kind, half(question)) for other, same, kind in others]
    return found
