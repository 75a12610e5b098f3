"""The query string's grammar, without a database."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.supabase.rest_errors import RestError
from local.supabase.rest_query import (
    Chosen,
    Counted,
    Embed,
    Field,
    Filter,
    Group,
    Order,
    parse_list,
    parse_query,
    parse_select,
    split,
)
from local.supabase.rest_select import array_literal, quote


def condition(key: str, value: str) -> object:
    return parse_query([(key, value)]).level().where[0]


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("name", Chosen(Field("name"))),
        ("*", Chosen(Field("*"))),
        ("called:name", Chosen(Field("name"), "called")),
        ("price::text", Chosen(Field("price"), None, "text")),
        ("p:price::numeric(10,2)", Chosen(Field("price"), "p", "numeric(10,2)")),
        ("at::timestamp with time zone", Chosen(Field("at"), None, "timestamp with time zone")),
        ("tags::text[]", Chosen(Field("tags"), None, "text[]")),
        ("meta->home->>city", Chosen(Field("meta", (("->", "home"), ("->>", "city"))))),
        ("c:meta->>city::int", Chosen(Field("meta", (("->>", "city"),)), "c", "int")),
        ('"a,b"', Chosen(Field("a,b"))),
        ("count()", Counted()),
        ("n:count()", Counted("n")),
    ],
)
def test_select_items(text: str, item: object) -> None:
    """Columns, aliases, casts, JSON paths, quoted names and the count."""
    assert parse_select(text) == (item,)


def test_embedded_relations_nest() -> None:
    """`alias:relation!hint!inner(…)` and `...relation(…)`, to any depth."""
    outer, spread = parse_select("title,writer:authors!books_author_id_fkey!inner(name,books(id)),...labels(word)")[1:]
    inner = Embed("books", None, None, inner=False, spread=False, items=(Chosen(Field("id")),))
    items = (Chosen(Field("name")), inner)
    assert outer == Embed("authors", "writer", "books_author_id_fkey", inner=True, spread=False, items=items)
    assert spread == Embed("labels", None, None, inner=False, spread=True, items=(Chosen(Field("word")),))


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("id", "eq.1", Filter(Field("id"), "eq", "1")),
        ("id", "not.eq.1", Filter(Field("id"), "eq", "1", negated=True)),
        ("name", "like(any).{A*,B*}", Filter(Field("name"), "like", "{A*,B*}", argument="any")),
        ("name", "fts(english).cat", Filter(Field("name"), "fts", "cat", argument="english")),
        ("name", "eq.a.b=c", Filter(Field("name"), "eq", "a.b=c")),
        ("name", "eq.", Filter(Field("name"), "eq", "")),
        ("at", "is.null", Filter(Field("at"), "is", "null")),
        ("meta->home->>city", "eq.x", Filter(Field("meta", (("->", "home"), ("->>", "city"))), "eq", "x")),
        ("meta->>a.b", "eq.x", Filter(Field("meta", (("->>", "a.b"),)), "eq", "x")),
    ],
)
def test_filters(key: str, value: str, wanted: object) -> None:
    """Operator, negation, quantifier, language and value; the value may hold dots."""
    assert condition(key, value) == wanted


def test_logic_trees_nest() -> None:
    """`or=(…)`, `not.and=(…)`, trees inside trees, quoted values with commas."""
    tree = condition("or", '(a.eq.1,not.and(b.is.null,c.not.in.(1,2)),d.eq."x,y")')
    nested = Group(
        "and", (Filter(Field("b"), "is", "null"), Filter(Field("c"), "in", "(1,2)", negated=True)), negated=True
    )
    assert tree == Group("or", (Filter(Field("a"), "eq", "1"), nested, Filter(Field("d"), "eq", '"x,y"')))
    assert condition("not.or", "(a.eq.1)") == Group("or", (Filter(Field("a"), "eq", "1"),), negated=True)


def test_each_level_has_its_own_filters() -> None:
    """`books.title=…`, `books.order=…`, `books.labels.limit=…` belong to the embedded relations."""
    query = parse_query(
        [
            ("books.title", "eq.x"),
            ("books.order", "id.desc.nullslast"),
            ("books.labels.limit", "3"),
            ("books.or", "(a.eq.1)"),
        ]
    )
    level = query.level(("books",))
    assert len(level.where) == 2
    assert level.order == [Order(Field("id"), descending=True, nulls="nullslast")]
    assert query.level(("books", "labels")).limit == 3
    assert not query.level().where


def test_order_terms() -> None:
    """Direction, nulls, JSON paths and a related column."""
    level = parse_query([("order", "a,b.desc,c.asc.nullsfirst,meta->>k.desc,authors(name).desc")]).level()
    assert level.order == [
        Order(Field("a")),
        Order(Field("b"), descending=True),
        Order(Field("c"), nulls="nullsfirst"),
        Order(Field("meta", (("->>", "k"),)), descending=True),
        Order(Field("name"), descending=True, relation="authors"),
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", "1"),
        ("id", "foo.1"),
        ("id", "eq(any)"),
        ("id", "neq(any).{1}"),
        ("at", "is.maybe"),
        ("limit", "-1"),
        ("limit", "x"),
        ("offset", "1.5"),
        ("or", "a.eq.1"),
        ("or", "(a.eq.1"),
        ("or", "(a)"),
        ("order", "a.sideways"),
        ("select", "a::text;drop"),
        ("select", "a::text)"),
        ("select", "authors!x!y(name)"),
        ("select", "a,b)"),
        ("id", "in.1"),
        ("select", "(name)"),
        ("select", "a->"),
    ],
)
def test_what_is_not_of_the_grammar_is_refused(key: str, value: str) -> None:
    """PGRST100, status 400."""
    with pytest.raises(RestError) as refused:
        _parse(key, value)
    assert (refused.value.status, refused.value.body["code"]) == (400, "PGRST100")


def _parse(key: str, value: str) -> None:
    """As far as the parser goes; the list of an `in` is parsed where the SQL is written."""
    for one in parse_query([(key, value)]).level().where:
        if isinstance(one, Filter) and one.operator == "in":
            parse_list(one.value)


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\0"))))
def test_any_list_survives_quoting(values: list[str]) -> None:
    """Values quoted as the clients quote them come back as they were."""
    quoted = ",".join('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
    assert parse_list(f"({quoted})") == values


@given(st.text())
def test_splitting_loses_nothing(text: str) -> None:
    """The parts, joined again, are the text; or it is refused."""
    try:
        parts = split(text)
    except RestError:
        return
    assert ",".join(parts) == text


@given(st.text(alphabet=st.characters(exclude_characters="\0")))
def test_a_quoted_name_ends_where_it_should(name: str) -> None:
    """No text closes the quotes of an identifier, or of an array's element, by itself."""
    assert quote(name)[1:-1].replace('""', "").count('"') == 0
    inside = array_literal([name])[2:-2].replace("\\\\", "").replace('\\"', "")
    assert '"' not in inside
    assert "\\" not in inside
