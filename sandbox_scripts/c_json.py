"""JSON by the C half of the standard library's `json` alone, which is all that the runner needs of it.

The Python half imports `re`, and with it `enum`: a third of all that would happen before the first event. Where another
version of Python has another C half, or none, the whole of `json` does the work.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Scan = Callable[[str, int], "tuple[Any, int]"]
    Encode = Callable[[Any, int], Any]

_SPACE = " \t\n\r"


def loads(text: str) -> Any:
    """The value that json.loads finds in it. Raise ValueError."""
    try:
        value, end = _scan(text, len(text) - len(text.lstrip(_SPACE)))
    except StopIteration as error:
        raise ValueError(f"no JSON value at character {error.value}") from None
    if text[end:].strip(_SPACE):
        raise ValueError(f"more than one JSON value, at character {end}")
    return value


def dumps(value: Any) -> str:
    """Compact, in ASCII. Raise TypeError for what JSON has no form for."""
    return "".join(_encode_ascii(value, 0))


def dumps_unicode(value: Any) -> str:
    """Compact, with every character as it is. Raise TypeError, and ValueError for NaN and infinities."""
    return "".join(_encode(value, 0))


class _Settings:
    """What the C scanner asks a json.JSONDecoder for."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_float, parse_int, parse_constant = float, int, float


def _foreign(value: object) -> Any:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _c_half() -> tuple[Scan, Encode, Encode]:
    import _json

    def encoder(as_string: Callable[[str], str], allow_nan: bool) -> Encode:
        return _json.make_encoder(None, _foreign, as_string, None, ":", ",", False, False, allow_nan)

    scan = _json.make_scanner(_Settings)  # type: ignore[arg-type] # only its attributes are asked for
    return scan, encoder(_json.encode_basestring_ascii, True), encoder(_json.encode_basestring, False)


def _whole() -> tuple[Scan, Encode, Encode]:
    import json

    def encoder(ensure_ascii: bool, allow_nan: bool) -> Encode:
        separators = (",", ":")
        encode = json.JSONEncoder(ensure_ascii=ensure_ascii, allow_nan=allow_nan, separators=separators).encode
        return lambda value, _level: encode(value)

    return json.JSONDecoder().raw_decode, encoder(True, True), encoder(False, False)


try:
    _scan, _encode_ascii, _encode = _c_half()
except (ImportError, AttributeError, TypeError):
    _scan, _encode_ascii, _encode = _whole()
