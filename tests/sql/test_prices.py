"""What things cost: which price is taken for a request, and what it comes to."""

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from tests.sql.money import CHEAP, DEAR, FAST, LONG, NANOUSD_PER_SECOND, PRICES, priced, sandbox_microusd
from tests.sql.people import SERVICE, Connection, refused, scalar
from tests.sql.runs import Json


@pytest.fixture(autouse=True)
def prices(rest: Connection, admin: Connection) -> Iterator[None]:
    """A deployment that has told its prices."""
    with priced(rest, admin):
        yield


def price_of(admin: Connection, model: str | None, usage: Json) -> tuple[str, bool, Json]:
    """Whose price is taken, whether it is the model's own, and the price."""
    row = admin.execute("select * from private.model_price(%s, %s)", (model, _json(usage))).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


def _json(value: Json) -> Any:
    return Jsonb(value)


def microusd(admin: Connection, usage: Json, price: Json = CHEAP) -> int:
    """What the usage costs at the price."""
    return int(scalar(admin, "select private.tokens_microusd(%s, %s)", (_json(usage), _json(price))))


@pytest.mark.parametrize(
    "name", ["cheap", "cheap-20260101", "cheap-2026-01-01", "cheap-latest", "cheap[1m]", "cheap-20260101[1m]"]
)
def test_a_model_is_known_by_its_name_without_its_date(admin: Connection, name: str) -> None:
    """The API answers with a dated name, and the CLI adds the context's size."""
    assert price_of(admin, name, {}) == ("cheap", True, CHEAP)


@pytest.mark.parametrize("name", ["unheard-of", "cheap-2026", "cheaper", "", None])
def test_an_unknown_model_costs_as_much_as_the_dearest(admin: Connection, name: str | None) -> None:
    """Money that nobody can reckon is reckoned too high, and the row says so."""
    found, is_known, price = price_of(admin, name, {})
    assert (found, is_known, {key: price[key] for key in DEAR}) == ("dear", False, DEAR)


def test_fast_mode_has_its_own_price(admin: Connection) -> None:
    """Or the dearest fast one, for a model that has none."""
    assert price_of(admin, "dear", {"speed": "fast"}) == ("dear", True, FAST)
    assert price_of(admin, "cheap", {"speed": "fast"}) == ("dear", False, FAST)
    assert price_of(admin, "cheap", {"speed": "standard"})[1] is True


def test_long_prompts_may_cost_more(admin: Connection) -> None:
    """All of the prompt counts, also what was in the cache; the limit itself is not above it."""
    at_the_limit = {"input_tokens": 400, "cache_read_input_tokens": 300, "cache_creation_input_tokens": 300}
    assert price_of(admin, "long", at_the_limit)[2]["input"] == CHEAP["input"]
    above = {**at_the_limit, "input_tokens": 401}
    assert price_of(admin, "long", above)[2]["input"] == LONG["input"]
    assert price_of(admin, "cheap", above)[2] == CHEAP


def test_each_kind_of_token_has_its_price(admin: Connection) -> None:
    """A million of each, in whole millionths of a dollar."""
    million = 1_000_000
    assert microusd(admin, {"input_tokens": million}) == 1_000_000
    assert microusd(admin, {"output_tokens": million}) == 2_000_000
    assert microusd(admin, {"cache_read_input_tokens": million}) == 100_000
    assert microusd(admin, {"cache_creation_input_tokens": million}) == 1_250_000
    hour = {"cache_creation_input_tokens": million, "cache_creation": {"ephemeral_1h_input_tokens": million}}
    assert microusd(admin, hour) == 2_000_000


def test_only_what_was_written_for_an_hour_costs_as_much(admin: Connection) -> None:
    """The rest of what was written is for five minutes; more than was written is nonsense and counts once."""
    written: Json = {"cache_creation_input_tokens": 1000, "cache_creation": {"ephemeral_1h_input_tokens": 400}}
    assert microusd(admin, written) == (400 * 2000 + 600 * 1250) // 1000
    written["cache_creation"]["ephemeral_1h_input_tokens"] = 5000
    assert microusd(admin, written) == 2000


def test_a_part_of_a_millionth_is_a_whole_one(admin: Connection) -> None:
    """Rounding is up, so that many small requests are never free."""
    assert microusd(admin, {"cache_read_input_tokens": 1}) == 1
    assert microusd(admin, {"cache_read_input_tokens": 10}) == 1
    assert microusd(admin, {"cache_read_input_tokens": 11}) == 2
    assert microusd(admin, {}) == 0


@pytest.mark.parametrize("count", ["many", -5, 1e300, None, [], {}])
def test_what_is_no_count_costs_nothing(admin: Connection, count: object) -> None:
    """A runner cannot stop its log by what it says it used."""
    assert microusd(admin, {"input_tokens": count}) == 0


def test_no_request_costs_more_than_a_hundred_dollars(admin: Connection) -> None:
    """Whatever it says of itself: a command in the sandbox may have said it."""
    assert microusd(admin, {"output_tokens": 10**12}, DEAR) == 100_000_000


@pytest.mark.parametrize(("milliseconds", "expected"), [(0, 0), (1, 1), (1000, 33), (3_600_000, 117_000)])
def test_a_sandbox_costs_by_the_millisecond(admin: Connection, milliseconds: int, expected: int) -> None:
    """Two vCPUs and a GiB: 32.5 millionths a second, rounded up."""
    assert scalar(admin, "select private.sandbox_nanousd_per_second()") == NANOUSD_PER_SECOND
    assert scalar(admin, "select private.sandbox_microusd(%s)", (milliseconds,)) == expected
    assert sandbox_microusd(milliseconds) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"as_of": None},
        {"models": None},
        {"models": {"a": {"input": 1}}},
        {"models": {"a": {**CHEAP, "input": -1}}},
        {"models": {"a": {**CHEAP, "output": 0.5}}},
        {"models": {"a": {**CHEAP, "output": "1"}}},
        {"models": {"a": {**CHEAP, "fast": {"input": 1}}}},
        {"models": {"a": {**CHEAP, "long_prompt": LONG}}},
        {"embeddings": {"small": "20"}},
        {"sandbox": {"vcpus": 2}},
        {"turn_estimate_microusd": None},
    ],
)
def test_a_list_with_holes_is_refused(rest: Connection, admin: Connection, changes: Json) -> None:
    """A price that is missing would make something free: the list before stays."""
    with refused("PT400", "bad_prices"):
        SERVICE.call(rest, "set_prices_v1", prices={**PRICES, **changes})
    assert scalar(admin, "select list from private.price_list") == PRICES


def test_telling_the_same_prices_again_writes_nothing(rest: Connection, admin: Connection) -> None:
    """Each container that starts says its list."""
    version = "select xmin::text from private.price_list"
    before = scalar(admin, version)
    SERVICE.call(rest, "set_prices_v1", prices=PRICES)
    assert scalar(admin, version) == before
    SERVICE.call(rest, "set_prices_v1", prices={**PRICES, "as_of": "2026-11-02"})
    assert scalar(admin, version) != before
