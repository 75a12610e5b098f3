"""What usage looks like on the wire, and which days may be asked for."""

from datetime import date
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from functions.rest import Row
from functions.usage import Day, as_usage

ROW: Row = {
    "from": "2026-11-01",
    "to": "2026-11-21",
    "days": [
        {"day": "2026-11-20", "kind": "model", "model": "claude-sonnet-5", "amount_microusd": 1234,
         "quantity": {"input_tokens": 10, "output_tokens": 20}},
        {"day": "2026-11-20", "kind": "sandbox", "model": None, "amount_microusd": 5, "quantity": {"milliseconds": 7}},
    ],
    "month": {"month": "2026-11", "spent_microusd": 1239, "reserved_microusd": 250_000, "limit_microusd": None,
              "remainder_microusd": None},
    "prices_as_of": "2026-11-20",
}  # fmt: skip


def test_usage_goes_out_as_the_ledger_has_it() -> None:
    """Amounts are millionths of a dollar, whole; nothing that the database adds later goes out by itself."""
    later: Any = {**ROW, "days": [{**day, "more": 1} for day in ROW["days"]], "more": 1}
    assert as_usage(later).model_dump(mode="json", by_alias=True) == {"type": "usage", **ROW}


def test_a_database_without_prices_has_no_date() -> None:
    """Nothing was told to it yet."""
    assert as_usage({**ROW, "prices_as_of": None}).prices_as_of is None


def test_a_day_has_one_form() -> None:
    """The form of ISO 8601 that everybody reads."""
    assert TypeAdapter(Day).validate_python("2026-11-21") == date(2026, 11, 21)


@pytest.mark.parametrize(
    "wrong", ["1700000000", "20261121", "2026-W47-6", "2026-11-31", "2026-11-21T00:00:00", "", "today"]
)
def test_what_else_could_be_a_day_is_refused(wrong: str) -> None:
    """Also what a lenient parser takes, such as a number of seconds."""
    with pytest.raises(ValidationError):
        TypeAdapter(Day).validate_python(wrong)
