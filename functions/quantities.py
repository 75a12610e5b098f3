"""Numbers as people write them, in digits and words, in French and English."""

import re
from decimal import Decimal

GROUPED_BY = re.compile(r"[ '\u00a0\u202f]")
BY_COMMAS = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
BY_POINTS = re.compile(r"-?\d{1,3}(?:(?:\.\d{3}){2,}(?:,\d+)?|\.\d{3},\d+)")
YEAR = re.compile(r"(?:19|20)\d\d")
HUNDRED = 100
# Digits; Decimal computes exactly with more than these and any scale of ours.
LONGEST = 15


def number(text: str) -> str:
    """One way to write it: «1 000,5» and «1,000.5» are 1000.5.

    A comma before three digits groups them, before any other count it is the decimal sign. What has more than one
    point, and is not grouped by them, is a version and stays as it is; so do zeros at its end: 3.10 is not 3.1.
    """
    plain = GROUPED_BY.sub("", text).replace("\u2212", "-")
    if BY_COMMAS.fullmatch(plain):
        plain = plain.replace(",", "")
    elif BY_POINTS.fullmatch(plain):
        plain = plain.replace(".", "")
    plain = plain.replace(",", ".")
    return unpadded(plain) if plain.lstrip("-").isdigit() else plain


def unpadded(digits: str) -> str:
    """Without zeros before it. Not by `int`, which refuses thousands of digits, and questions may have them."""
    return f"{'-' if digits.startswith('-') else ''}{digits.lstrip('-').lstrip('0') or '0'}"


def scaled(text: str, scale: int) -> str:
    """A number and the word behind it: 1.5 and million are 1500000. What no number is, or too long, keeps the scale."""
    if text.count(".") > 1 or len(text) > LONGEST:
        return f"{text} x {scale}"
    product = Decimal(text) * scale
    return format(product.quantize(Decimal(1)) if product == product.to_integral_value() else product.normalize(), "f")


def spelt(values: list[int]) -> str:
    """A number in words, by the value of each: two hundred fifty is [2, 100, 50], quatre-vingt-dix [4, 20, 10]."""
    total = part = 0
    for value in values:
        if value > HUNDRED:
            total, part = total + max(part, 1) * value, 0
        elif value == HUNDRED or (value, part % HUNDRED) == (20, 4):
            part = max(part, 1) * value if value == HUNDRED else part - 4 + 80
        else:
            part += value
    return str(total + part)


def is_year(text: str) -> bool:
    """Whether a number without a unit is read as a year."""
    return YEAR.fullmatch(text) is not None
