"""What owners read of their spending: by day, kind and model, and their month."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from tests.sql.conversations import new_turn
from tests.sql.limits import allow
from tests.sql.money import PRICES, priced, record, run_on, use
from tests.sql.people import ANON, Connection, Person, refused, scalar, sign_up
from tests.sql.runs import Json, Run, lose


@pytest.fixture(autouse=True)
def prices(rest: Connection, admin: Connection) -> Iterator[None]:
    """A deployment that has told its prices."""
    with priced(rest, admin):
        yield


@pytest.fixture
def turn(rest: Connection, admin: Connection) -> Run:
    """A conversation's first run."""
    return new_turn(rest, admin)


def usage(rest: Connection, owner: Person, **days: object) -> Json:
    """The answer of read_usage_v1."""
    return dict(owner.call(rest, "read_usage_v1", **days))


def today(admin: Connection) -> date:
    """The database's day, of UTC."""
    found: date = scalar(admin, "select (now() at time zone 'utc')::date")
    return found


def spend_at(admin: Connection, owner: Person, at: datetime, microusd: int) -> None:
    """A spend of another time, as the ledger would have it."""
    admin.execute(
        "insert into public.ledger (owner, entry, kind, model, quantity, amount_microusd, created_at) "
        "values (%s, 'spend', 'model', 'cheap', '{\"input_tokens\": 1}', %s, %s)",
        (owner.id, microusd, at),
    )


def test_nothing_spent_is_nothing_told(rest: Connection, admin: Connection) -> None:
    """A new owner's month."""
    told = usage(rest, sign_up(admin))
    day = today(admin)
    assert (told["from"], told["to"]) == (str(day.replace(day=1)), str(day))
    assert (told["days"], told["prices_as_of"]) == ([], PRICES["as_of"])
    assert told["month"] == {
        "month": f"{day:%Y-%m}", "spent_microusd": 0, "reserved_microusd": 0, "limit_microusd": None,
        "remainder_microusd": None,
    }  # fmt: skip


def test_a_day_is_told_by_kind_and_model(rest: Connection, admin: Connection, turn: Run) -> None:
    """Requests to one model are one line, with the sum of each kind of token; a sandbox's has its time."""
    use(rest, turn, 1, "a", input_tokens=10, output_tokens=1)
    use(rest, turn, 2, "b", input_tokens=20, cache_read_input_tokens=4)
    use(rest, turn, 3, "c", model="dear", output_tokens=2)
    run_on(admin, record(rest, turn), 10)
    lose(admin, turn, "failed")
    sandbox, cheap, dear = usage(rest, turn.owner)["days"][2], *usage(rest, turn.owner)["days"][:2]
    tokens = {"input_tokens": 30, "output_tokens": 1, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4}
    assert (cheap["kind"], cheap["model"], cheap["quantity"]) == ("model", "cheap", tokens)
    assert (dear["model"], dear["amount_microusd"]) == ("dear", 150)
    assert (sandbox["kind"], sandbox["model"], list(sandbox["quantity"])) == ("sandbox", None, ["milliseconds"])
    assert sandbox["quantity"]["milliseconds"] >= 10_000


def test_the_days_sum_to_the_month(rest: Connection, admin: Connection, turn: Run) -> None:
    """What stands in the lines of this month is what was spent in it."""
    for n in range(1, 6):
        use(rest, turn, n, f"id-{n}", input_tokens=n)
    told = usage(rest, turn.owner)
    assert sum(line["amount_microusd"] for line in told["days"]) == told["month"]["spent_microusd"] == 15


def test_a_day_ends_at_midnight_of_utc(rest: Connection, admin: Connection) -> None:
    """Whatever the database's own zone is."""
    owner = sign_up(admin)
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    spend_at(admin, owner, midnight - timedelta(microseconds=1), 1)
    spend_at(admin, owner, midnight, 2)
    days = {"from_day": "2026-02-28", "to_day": "2026-03-01"}
    assert [(line["day"], line["amount_microusd"]) for line in usage(rest, owner, **days)["days"]] == [
        ("2026-02-28", 1),
        ("2026-03-01", 2),
    ]
    admin.execute("set timezone = 'Pacific/Auckland'")
    days = {"from_day": "2026-03-01", "to_day": "2026-03-01"}
    assert [line["amount_microusd"] for line in usage(rest, owner, **days)["days"]] == [2]


@pytest.mark.parametrize("days", [("2026-01-02", "2026-01-01"), ("2025-01-01", "2026-01-02")])
def test_more_than_a_year_or_nothing_is_refused(rest: Connection, admin: Connection, days: tuple[str, str]) -> None:
    """From one day to 366 of them."""
    with refused("PT400", "invalid_request_error"):
        usage(rest, sign_up(admin), from_day=days[0], to_day=days[1])
    usage(rest, sign_up(admin), from_day="2025-01-01", to_day="2026-01-01")


def test_a_limit_is_told_with_what_is_left(rest: Connection, admin: Connection, turn: Run) -> None:
    """Never less than nothing, also where the limit was lowered since."""
    reserved = usage(rest, turn.owner)["month"]["reserved_microusd"]
    allow(rest, admin, turn.owner, max_month_microusd=10**7)
    told = usage(rest, turn.owner)["month"]
    assert (told["limit_microusd"], told["remainder_microusd"]) == (10**7, 10**7 - reserved)
    allow(rest, admin, turn.owner, max_month_microusd=1)
    assert usage(rest, turn.owner)["month"]["remainder_microusd"] == 0


def test_owners_are_told_their_own(rest: Connection, admin: Connection, turn: Run) -> None:
    """A stranger reads nothing of it, and nobody without a name reads at all."""
    use(rest, turn, 1, input_tokens=1000)
    assert usage(rest, sign_up(admin))["days"] == []
    with refused("42501"):
        usage(rest, ANON)


def test_many_rows_of_many_models_are_read_in_one_pass(rest: Connection, admin: Connection) -> None:
    """No part of the answer is looked up once for each line of it."""
    owner = sign_up(admin)
    admin.execute(
        "insert into public.ledger (owner, entry, kind, model, quantity, amount_microusd) "
        "select %s, 'spend', 'model', 'm' || n %% 5000, '{\"input_tokens\": 1, \"output_tokens\": 2}', 1 "
        "from generate_series(1, 40000) n",
        (owner.id,),
    )
    admin.execute("set statement_timeout = '10s'")  # the product of the two would take minutes
    days = scalar(
        admin, "select private.usage_by_day(%s, (now() - interval '2 days')::date, now()::date + 1)", (owner.id,)
    )
    assert len(days) == 5000
    assert {(line["amount_microusd"], *line["quantity"].values()) for line in days} == {(8, 8, 16)}
