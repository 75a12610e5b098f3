"""From a word as it is written to the fields a command gets, as bash does it."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox_scripts.drivers.research import braces
from sandbox_scripts.drivers.research.scope import HOME
from sandbox_scripts.drivers.research.values import DOWNLOADED, UNKNOWN, Unreadable, either, joined, made_of
from sandbox_scripts.drivers.research.walk import Walk

# What each of these is for bash; the first word names what is tried.
SAME = [
    ("plain", "a b  c"),
    ("quotes", """'a b' "c d" e' 'f"g h" '' "" ''"" """),
    ("escapes", r"a\ b \' \" \\ a\b"),
    ("escapes-in-quotes", r'''"a\b" "a\"b" "a\\b" 'a\b' "\$x"'''),
    ("ansi", r"$'a\tb' $'\x41\102\u0043' $'it\'s' $'\e'"),
    ("variables", "$a ${a} x$a $ab ${a}b \"$a\" '$a'"),
    ("empty", '$none "$none" x$none ${none}y'),
    ("splitting", '$spaced "$spaced" x${spaced}y'),
    ("defaults", '${none:-d} ${none-d} ${a:-d} ${a:+d} ${none:-x y} "${none:-x y}"'),
    ("nested-defaults", "${none:-${other:-${a}}} ${none:-$(echo hi)}"),
    ("substrings", "${long:1} ${long:1:2} ${long:0:1} ${long: -2}"),
    ("trimming", "${path#*/} ${path##*/} ${path%/*} ${path%%/*} ${path%.txt}"),
    ("replacing", "${long/l/L} ${long//l/L} ${long/#h/H} ${long/%o/O} ${path//\\//_}"),
    ("cases", "${long^} ${long^^} ${upper,} ${upper,,}"),
    ("arrays", '${list[0]} ${list[1]} ${list[@]} "${list[@]}" ${list}'),
    ("indirect", "${!name}"),
    ("substitution", '$(echo hi) `echo hi` "$(echo a b)" $(echo a b) x$(echo y)z $(echo)'),
    ("nested-substitution", '$(echo $(echo deep)) "$(echo "$(echo "q r")")" `echo \\`echo tick\\``'),
    ("braces", "{a,b} x{a,b}y {1..3} {a..c} {3..1} {a,{b,c}} {a} {a,b}{1,2} {,x}y '{a,b}' \"{a,b}\" {1..7..3}"),
    ("programs", "$(printf '%s-%s' a b) $(printf '\\x41') $(echo -e 'a\\x42') $(echo -n x) $(printf '%b' '\\101')"),
    ("pipes", "$(echo abc | rev) $(echo abc | tr a-c x-z) $(echo YWJj | base64 -d) $(echo abc | cat)"),
    ("here", "$(cat <<< text) $(cat <<< 'a b')"),
    ("tilde", "~ ~/x '~' x~"),
]
SETUP = (
    "a=A; spaced='one two  three'; long=hello; path=/usr/lib/x.txt; upper=HELLO; list=(l1 'l 2'); name=a; HOME=" + HOME
)


def expanded(text: str, setup: str = SETUP) -> set[tuple[str, ...]]:
    """The words of a command, in all ways they may come out."""
    walk = Walk(None)
    walk.script(setup)
    return {tuple(sum(ways, ())) for ways in _ways(walk, text)}


def _ways(walk: Walk, text: str) -> list[tuple[tuple[str, ...], ...]]:
    walk.script(f"words() {{ printf '%s\\n' {text}; }}")
    command = walk.scope.functions["words"].children[1]
    raw = [(child.text or b"").decode() for child in command.children[2:]]
    return [tuple(field for field in walk.words.fields(one)) for one in raw] and _product(
        [walk.words.fields(one) for one in raw]
    )


def _product(words: list[tuple[tuple[str, ...], ...]]) -> list[tuple[tuple[str, ...], ...]]:
    found: list[tuple[tuple[str, ...], ...]] = [()]
    for ways in words:
        found = [(*before, way) for before in found for way in ways]
    return found


def as_bash(text: str) -> tuple[str, ...]:
    """The words of a command as bash has them."""
    script = f"{SETUP}\nprintf '%s\\0' {text}"
    told = subprocess.run(["bash", "-fc", script], capture_output=True, text=True, check=True).stdout
    return tuple(told.split("\0")[:-1])


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash decides here")
@pytest.mark.parametrize(("_kind", "text"), SAME, ids=[kind for kind, _ in SAME])
def test_words_come_out_as_in_bash(_kind: str, text: str) -> None:
    """What bash makes of a word is among what we say it may be, and where all is known it is all."""
    ours = expanded(text)
    assert as_bash(text) in ours
    if UNKNOWN not in "".join("".join(way) for way in ours):
        assert len(ours) == 1


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash decides here")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text("ab ,'\"\\{}.1", min_size=1, max_size=12))
def test_any_word_that_bash_reads_comes_out_as_in_bash(text: str) -> None:
    """Quotes, escapes and braces in any order."""
    told = subprocess.run(["bash", "-fc", f"printf '%s\\0' {text}"], capture_output=True, text=True, check=False)
    if told.returncode or told.stderr or "\n" in told.stdout:
        return
    walk = Walk(None)
    try:
        printed = walk.script(f"printf '<%s>' {text}")
    except Unreadable:
        return  # refused, which is safe
    assert "".join(f"<{field}>" for field in told.stdout.split("\0")[:-1]) in printed


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        ("$never_set", {(), (UNKNOWN,)}),
        ("x$never_set", {("x",), ("x" + UNKNOWN,)}),
        ("$(date)", {(UNKNOWN,)}),
        ("$RANDOM", {(UNKNOWN,)}),
        ("$((1 + 1))", {(UNKNOWN,)}),
        ("${#a}", {(UNKNOWN,)}),
        ("$1", {()}),
        ('"$@"', {()}),
    ],
)
def test_what_is_not_known_is_marked(text: str, ways: set[tuple[str, ...]]) -> None:
    """A variable nobody set may be empty; what a program prints may be anything."""
    assert expanded(text) == ways


@pytest.mark.parametrize(
    ("setup", "ways"),
    [
        ("if true; then x=1; else x=2; fi", {("",), ("1",), ("2",)} - {("",)} | {()}),
        ("x=1; if true; then x=2; fi", {("1",), ("2",)}),
        ("x=1; true && x=2", {("1",), ("2",)}),
        ("x=1; true || x=2", {("1",), ("2",)}),
        ("x=1; (x=2)", {("1",)}),
        ("for x in 1 2; do :; done", {(), ("1",), ("2",)}),
        ("case a in a) x=1;; *) x=2;; esac", {(), ("1",), ("2",)}),
        ("x=1; while false; do x=2; done", {("1",), ("2",)}),
        ("x=1; x+=2", {("12",)}),
        ("read x <<< 'one'", {("one",)}),
        ("printf -v x '%s' one", {("one",)}),
        ("export x=one", {("one",)}),
        ("x=1; unset_function() { x=2; }; unset_function", {("2",)}),
        ("x=$(echo one)", {("one",)}),
        ("x=1 y=$x; x=$y", {("1",)}),
    ],
)
def test_a_variable_has_all_values_it_may_have(setup: str, ways: set[tuple[str, ...]]) -> None:
    """What is set on one way only leaves the other ways open."""
    assert expanded("$x", setup) == ways


def test_too_many_words_are_unreadable() -> None:
    """Nobody needs a hundred thousand words from one pair of braces."""
    with pytest.raises(Unreadable):
        braces.expand("{1..100}{1..1000}")
    with pytest.raises(Unreadable):
        braces.expand("{1..1000000}")


def test_too_many_ways_are_unreadable() -> None:
    """Numbers become unknown, anything else is given up."""
    assert either(map(str, range(100))) == (UNKNOWN,)
    with pytest.raises(Unreadable):
        either(f"x{number}" for number in range(100))
    with pytest.raises(Unreadable):
        joined([["a", "b"]] * 10)


def test_what_a_program_makes_is_as_bad_as_what_it_is_given() -> None:
    """Something downloaded stays downloaded."""
    assert made_of("a", DOWNLOADED, UNKNOWN) == DOWNLOADED
    assert made_of("a") == UNKNOWN
