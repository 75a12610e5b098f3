"""The filter grammar: everything realtime-js's builder writes is read as it was meant, everything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from local.supabase.realtime_filter import COMPARISONS, PATTERNS, Condition, FilterError, parse

COLUMN = st.from_regex(r"[a-z_][a-z0-9_]{0,10}", fullmatch=True)
VALUE = st.text(st.characters(codec="utf-8"), max_size=12)


def written(value: str) -> str:
    """A value as `RealtimePostgresFilterBuilder` writes it: quoted where reserved characters ask for it."""
    if any(character in value for character in ',()"\\') or value != value.strip():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return value


CONDITION = st.one_of(
    st.builds(
        Condition,
        COLUMN,
        st.sampled_from(sorted(COMPARISONS | PATTERNS)),
        st.tuples(VALUE.filter(lambda value: '"' not in value[:1])),
        st.booleans(),
    ),
    st.builds(Condition, COLUMN, st.just("in"), st.lists(VALUE, min_size=1, max_size=4).map(tuple), st.booleans()),
    st.builds(Condition, COLUMN, st.just("is"), st.tuples(st.sampled_from(["null", "true", "false"])), st.booleans()),
)


def text_of(condition: Condition) -> str:
    """A condition in the wire's form."""
    values = [written(value) for value in condition.values]
    value = f"({','.join(values)})" if condition.operator == "in" else values[0]
    return f"{condition.column}={'not.' if condition.negated else ''}{condition.operator}.{value}"


@given(st.lists(CONDITION, min_size=1, max_size=3))
def test_what_the_builder_writes_is_read(conditions: list[Condition]) -> None:
    """Any conditions survive being written and read, whatever their values hold."""
    assert parse(",".join(map(text_of, conditions))) == tuple(conditions)


@given(st.text(max_size=60))
def test_no_text_crashes_the_reader(text: str) -> None:
    """Any text is a filter or a FilterError."""
    try:
        parse(text)
    except FilterError:
        return


@pytest.mark.parametrize("text", [None, ""])
def test_no_filter_has_no_conditions(text: str | None) -> None:
    """An absent or empty filter lets everything pass."""
    assert parse(text) == ()


@pytest.mark.parametrize(
    "text",
    ["id", "id=", "id=eq", "id=similar.3", "id=in.1", "id=is.maybe", "=eq.1", "id=eq.1,", "id=cs.{1}"],
)
def test_what_means_nothing_is_refused(text: str) -> None:
    """A filter that would be ignored or misread is an error instead."""
    with pytest.raises(FilterError):
        parse(text)


def test_values_never_become_sql() -> None:
    """A value is a literal of the column's type, whatever it holds."""
    hostile = "1'; drop table notes; --"
    expression = Condition("id", "eq", (hostile,)).expression(sql.Identifier("id"), sql.SQL("int8"))
    assert expression.as_string(None) == "\"id\" = '1''; drop table notes; --'::int8"
