"""Every way that bash allows to write the same word."""

from __future__ import annotations

from hypothesis import strategies as st


def _escaped(text: str) -> str:
    return "".join("\\" + one for one in text)


def _octal(text: str) -> str:
    return "$'" + "".join(f"\\{ord(one):03o}" for one in text) + "'"


def _hexadecimal(text: str) -> str:
    return "$'" + "".join(f"\\x{ord(one):02x}" for one in text) + "'"


def _unicode(text: str) -> str:
    return "$'" + "".join(f"\\u{ord(one):04x}" for one in text) + "'"


QUOTES = (
    str,
    _escaped,
    _octal,
    _hexadecimal,
    _unicode,
    lambda text: f"'{text}'",
    lambda text: f'"{text}"',
    lambda text: f"$'{text}'",
    lambda text: f'$"{text}"',
    lambda text: f"$(printf %s {text})",
    lambda text: f"`printf %s {text}`",
    lambda text: f"$(echo x{text} | tr -d x)" if "x" not in text else text,
    lambda text: f'"$(printf %s {text})"',
    lambda text: f"${{unset_:-{text}}}",
    lambda text: f"${{unset_-'{text}'}}",
    lambda text: f"$(printf '%s' '{text}')",
    lambda text: f"$(rev <<< {text[::-1]})",
    lambda text: f"$(echo {text.encode().hex()} | xxd -r -p)",
)
NOTHING = ("", "''", '""', "${unset_}", "\\\n", "$@", "$(true)", "``")


@st.composite
def written(draw: st.DrawFn, word: str) -> str:
    """The word in pieces, each quoted in some way, with nothing between them in some way."""
    cuts = sorted(draw(st.sets(st.integers(1, len(word) - 1)))) if len(word) > 1 else []
    pieces = [word[start:end] for start, end in zip([0, *cuts], [*cuts, len(word)], strict=True)]
    quoted = [draw(st.sampled_from(NOTHING)) + draw(st.sampled_from(QUOTES))(piece) for piece in pieces]
    return "".join(quoted) + draw(st.sampled_from(NOTHING))


@st.composite
def line(draw: st.DrawFn, words: tuple[str, ...]) -> str:
    """A command of these words, each written in some way."""
    return " ".join([draw(written(word)) for word in words])
