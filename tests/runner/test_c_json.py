"""The C half of json by itself: the same texts and values as the whole, also where there is no C half."""

from __future__ import annotations

import json
import math
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_scripts.c_json import dumps, dumps_unicode, loads
from tests.runner.conftest import ROOT, RUNNER_PYTHON
from tests.runner.test_spool import ANY_JSON

COMPACT = (",", ":")
WRONG = ["", " \n", "{", "[1,]", "{'a':1}", "1 2", '"\n"', "nul", "\ufeff1", '{"a":1}x', "\v1"]
# Prints what the half and its stand-in make of the same things, in an interpreter that has no C half.
WITHOUT = f"""
import sys
sys.modules["_json"] = None
from sandbox_scripts.c_json import dumps, dumps_unicode, loads
value = loads(' [1, 2.5, null, {{"k": "\\u00e9"}}] ')
def fails(call, *given):
    try:
        call(*given)
    except ValueError:
        return True
said = [loads(dumps(value)) == value, dumps(value).isascii(), "\\u00e9" in dumps_unicode(value)]
print(all(said), "json" in sys.modules, fails(dumps_unicode, float("nan")))
print(all(fails(loads, text) for text in {WRONG!r}))
"""


@given(ANY_JSON)
def test_it_writes_what_json_writes(value: Any) -> None:
    """Byte for byte, as ASCII and as it is."""
    assert dumps(value) == json.dumps(value, separators=COMPACT)
    try:
        expected = json.dumps(value, separators=COMPACT, ensure_ascii=False, allow_nan=False)
    except ValueError:
        with pytest.raises(ValueError, match="JSON compliant"):
            dumps_unicode(value)
    else:
        assert dumps_unicode(value) == expected


@given(ANY_JSON, st.sampled_from([None, 0, 2]), st.text(" \t\r\n"))
def test_it_reads_what_json_reads(value: Any, indent: int | None, space: str) -> None:
    """With any white space around and within."""
    text = space + json.dumps(value, indent=indent) + space
    assert repr(loads(text)) == repr(json.loads(text))


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    """Wherever json says so too."""
    for read in (json.loads, loads):
        with pytest.raises(ValueError, match=r".+"):
            read(text)


def test_what_json_has_no_form_for_is_a_type_error() -> None:
    """Told by its type; NaN and infinities are ValueErrors where they would reach jsonb."""
    with pytest.raises(TypeError, match="bytes"):
        dumps(b"")
    with pytest.raises(ValueError, match="compliant"):
        dumps_unicode(-math.inf)


def test_without_a_c_half_the_whole_of_json_does_it() -> None:
    """Another interpreter may lack it: the same values, texts and errors."""
    ran = subprocess.run([RUNNER_PYTHON, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "True True True\nTrue\n"
