"""Secrets out of a stream of bytes: literal values of the job, and what looks like a key of a known service.

Each becomes `[redacted:<kind>]`. A secret may be cut by a chunk's border, so what could be the beginning of one is
held back until more comes. The hold is bounded in time and size by the caller (`force`): then a beginning that is
already told from ordinary text is redacted, and what follows of it too.
"""

from __future__ import annotations

import base64
import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# A shorter literal would redact ordinary words; shorter than 8, its encoded forms would.
LITERAL_MIN_BYTES = 4
ENCODED_MIN_BYTES = 8
# Of an unfinished literal that has to be let go of, fewer bytes than this are shown.
LITERAL_TOLD_BYTES = 4
_TOKEN = rb"[A-Za-z0-9_.+/=~-]"
_TOKEN_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.+/=~-"
# Not in the middle of a word; but right after a colour code, whose last letter is no part of one.
WORD_CONTEXT_BYTES = 2
_WORD = rb"(?:(?<![A-Za-z0-9])|(?<=[0-9;\[][mK]))"


class Kind:
    """Keys of one service: they begin with one of `prefixes`, match `body` after it, and hold `proof` somewhere.

    `body` takes all that it has looked through, also of what is no key: so each byte is looked at a few times at most.
    """

    def __init__(self, name: str, prefixes: tuple[bytes, ...], body: bytes, proof: bytes = b"") -> None:
        self.name = name
        self.prefixes = prefixes
        self._proof = re.compile(proof)
        self.pattern = re.compile(_WORD + rb"(?:" + rb"|".join(map(re.escape, prefixes)) + rb")" + body)

    def spans(self, data: bytes, start: int) -> Iterator[tuple[int, int, str]]:
        """Where such keys are. Looking for the prefixes first is what keeps ordinary output cheap."""
        if any(prefix in data for prefix in self.prefixes):
            for match in self.pattern.finditer(data, start):
                if self._proof.search(match[0]):
                    yield match.start(), match.end(), self.name


KINDS = (
    Kind("anthropic_key", (b"sk-ant-",), rb"[A-Za-z0-9_-]{16,}"),
    Kind("openai_key", (b"sk-",), rb"(?!ant-)[A-Za-z0-9_-]{20,}", rb"[0-9]"),
    Kind("github_token", (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"), rb"[A-Za-z0-9]{30,}"),
    Kind("github_token", (b"github_pat_",), rb"[A-Za-z0-9_]{30,}"),
    Kind("gitlab_token", (b"glpat-",), rb"[A-Za-z0-9_-]{20,}"),
    Kind("aws_access_key", (b"AKIA", b"ASIA"), rb"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    Kind("slack_token", (b"xoxa-", b"xoxb-", b"xoxe-", b"xoxp-", b"xoxr-", b"xoxs-", b"xapp-"), rb"[A-Za-z0-9-]{10,}"),
    Kind("stripe_key", (b"sk_live_", b"sk_test_", b"rk_live_", b"rk_test_", b"whsec_"), rb"[A-Za-z0-9+/=]{16,}"),
    Kind("supabase_key", (b"sb_secret_", b"sbp_"), rb"[A-Za-z0-9_-]{16,}"),
    Kind("e2b_key", (b"e2b_", b"sk_e2b_"), rb"[a-f0-9]{32,}"),
    Kind("google_key", (b"AIza",), rb"[A-Za-z0-9_-]{35,}"),
    Kind("huggingface_token", (b"hf_",), rb"[A-Za-z0-9]{30,}"),
    Kind("npm_token", (b"npm_",), rb"[A-Za-z0-9]{36,}"),
    Kind("jwt", (b"eyJ",), rb"[A-Za-z0-9_-]{8,}(?:\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,})?", rb"\."),
)
_PREFIXES = sorted({prefix for kind in KINDS for prefix in kind.prefixes}, key=len, reverse=True)
_KIND_OF = {prefix: kind.name for kind in reversed(KINDS) for prefix in kind.prefixes}
_STARTS = sorted({prefix[:length] for prefix in _PREFIXES for length in range(1, len(prefix))}, key=len, reverse=True)
_UNFINISHED = re.compile(
    _WORD + rb"(?:(" + rb"|".join(_PREFIXES) + rb")" + _TOKEN + rb"*|(?:" + rb"|".join(_STARTS) + rb"))\Z"
)

_AWS_NAME = rb"(?i)aws_?secret_?access_?key"
_AWS_SECRET = re.compile(_AWS_NAME + rb"[\"']?\s{0,8}[=:]\s{0,8}[\"']?([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])")
_AWS_SECRET_UNFINISHED = re.compile(_AWS_NAME + rb"[\"'=:\s]{0,20}([A-Za-z0-9/+]{0,40})\Z")

_PEM_NAMED = rb"-----%b (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
# Both lines consist of these too.
_PEM_CHARACTERS = rb"A-Za-z0-9+/=\s\\:,-"
_PEM_BEGIN = re.compile(_PEM_NAMED % b"BEGIN")
_PEM_END = re.compile(_PEM_NAMED % b"END")
_PEM_OUTSIDE = re.compile(rb"[^%b]" % _PEM_CHARACTERS)
_PEM_START = re.compile(rb"-(?:-(?:-(?:-(?:-(?:B|BE|BEG|BEGI|BEGIN(?: [A-Z0-9 ]{0,40}-{0,5})?)?)?)?)?)?\Z")

_REST_OF_TOKEN = re.compile(_TOKEN + rb"*")
_REST_OF_PEM = re.compile(rb"[%b]*?(?:-----END [A-Z0-9 ]+-----|(?=[^%b])|\Z)" % (_PEM_CHARACTERS, _PEM_CHARACTERS))


class Cut:
    """What may be shown: `text` stands for the first `consumed` bytes."""

    def __init__(self, consumed: int, text: bytes) -> None:
        self.consumed = consumed
        self.text = text


class Redactor:
    """Redacts one stream, chunk by chunk. What it remembers between chunks is lost with a restart."""

    def __init__(self, forms: list[bytes]) -> None:
        """`forms` come from literal_forms()."""
        self._literals = forms
        self._before = b""
        self._rest: re.Pattern[bytes] | bytes | None = None

    def cut(self, chunk: bytes, force: bool = False, end: bool = False) -> Cut:
        """Decide about the stream's next bytes. What is not consumed comes again, with more behind it.

        `force`: no more can be waited for; all is consumed. `end`: the stream is over; all is consumed.
        """
        skipped = self._skip(chunk)
        data = self._before + chunk[skipped:]
        start = len(self._before)
        spans = _merged(self._spans(data, start))
        hold, kind = (len(data), "") if end else self._unfinished(data, start)
        if not force:
            hold = _clear_of(spans, hold)
        elif kind:
            self._rest = self._rest_of(kind, data[hold:])
            spans = _merged([*spans, (hold, len(data), kind)])
        shown = len(data) if force else hold
        self._before = data[max(0, shown - WORD_CONTEXT_BYTES) : shown]
        return Cut(skipped + shown - start, _replaced(data, start, shown, spans))

    def _skip(self, chunk: bytes) -> int:
        """The bytes that go on with a secret whose beginning was redacted before."""
        rest, self._rest = self._rest, None
        if rest is None:
            return 0
        if isinstance(rest, bytes):
            skipped = _common(rest, chunk)
            rest = rest[skipped:] or None
        else:
            match = rest.match(chunk)
            skipped = match.end() if match else 0
        if skipped == len(chunk):
            self._rest = rest
        if skipped:
            self._before = b""
        return skipped

    def _rest_of(self, kind: str, begun: bytes) -> re.Pattern[bytes] | bytes:
        """What goes on with a secret that has begun."""
        if kind == "private_key":
            return _REST_OF_PEM
        if kind != "value":
            return _REST_OF_TOKEN
        literal = next(form for form in self._literals if form.startswith(begun))
        return literal[len(begun) :]

    def _spans(self, data: bytes, start: int) -> Iterator[tuple[int, int, str]]:
        for literal in self._literals:
            at = data.find(literal, start)
            while at >= 0:
                yield at, at + len(literal), "value"
                at = data.find(literal, at + 1)
        for kind in KINDS:
            yield from kind.spans(data, start)
        for first, last in _private_keys(data, start):
            if last is not None:
                yield first, last, "private_key"
        for match in _AWS_SECRET.finditer(data, start):
            yield match.start(1), match.end(1), "aws_secret_key"

    def _unfinished(self, data: bytes, start: int) -> tuple[int, str]:
        """Where the earliest secret begins that may go on past the end, and its kind once that is certain."""
        found = [self._unfinished_token(data, start), self._unfinished_pem(data, start)]
        found.extend(self._unfinished_literals(data, start))
        aws = _AWS_SECRET_UNFINISHED.search(data, max(start, len(data) - 128))
        if aws:
            found.append((aws.start(1) if aws[1] else aws.start(), "aws_secret_key" if aws[1] else ""))
        hold, kind = min(found, key=lambda place: (place[0], not place[1]))
        return max(start, min(hold, len(data) - _cut_character(data[start:]))), kind

    def _unfinished_token(self, data: bytes, start: int) -> tuple[int, str]:
        match = _UNFINISHED.search(data, max(start, len(data.rstrip(_TOKEN_BYTES))))
        if match is None:
            return len(data), ""
        return match.start(), _KIND_OF[match[1]] if match[1] and match.end() > match.end(1) else ""

    def _unfinished_pem(self, data: bytes, start: int) -> tuple[int, str]:
        for first, last in _private_keys(data, start):
            if last is None:
                return first, "private_key"
        match = _PEM_START.search(data, max(start, len(data) - 64))
        return (match.start() if match else len(data)), ""

    def _unfinished_literals(self, data: bytes, start: int) -> Iterator[tuple[int, str]]:
        """Only prefixes that end with the data's last byte come into question, so most literals cost one find."""
        last = data[-1:]
        for literal in self._literals:
            at = literal.find(last) if last else -1
            longest = 0
            while 0 <= at < len(literal) - 1:
                if len(data) - start > at and data.endswith(literal[: at + 1]):
                    longest = at + 1
                at = literal.find(last, at + 1)
            if longest:
                yield len(data) - longest, "value" if longest >= LITERAL_TOLD_BYTES else ""


def redact_text(text: str, forms: list[bytes]) -> str:
    """A text that is complete."""
    return Redactor(forms).cut(text.encode("utf-8", "replace"), end=True).text.decode("utf-8", "replace")


def literal_forms(values: list[str]) -> list[bytes]:
    """Each value as it is, and as base64 (at its three alignments), URL encoding, JSON string and hex write it."""
    forms: set[bytes] = set()
    for value in values:
        raw = value.encode("utf-8", "replace")
        forms.add(raw)
        if len(raw) >= ENCODED_MIN_BYTES:
            forms.update(_base64_forms(raw))
            forms.update((raw.hex().encode(), raw.hex().upper().encode()))
            forms.add(json.dumps(value)[1:-1].encode())
            forms.update(_url_forms(raw))
    return sorted((form for form in forms if len(form) >= LITERAL_MIN_BYTES), key=len, reverse=True)


def _private_keys(data: bytes, start: int) -> Iterator[tuple[int, int | None]]:
    """Where PEM blocks begin and end; the last one's end is None when it may go on past the data.

    Each byte is looked at a few times at most, whatever stands there: all blocks that begin within one run of a block's
    characters share its end, so where the run has no END line after one of them, it has none after the others.
    """
    run_end = done = start
    while b"PRIVATE KEY" in data and (begin := _PEM_BEGIN.search(data, done)):
        if run_end < begin.end():
            outside = _PEM_OUTSIDE.search(data, begin.end())
            run_end = outside.start() if outside else len(data)
        end = _PEM_END.search(data, begin.end(), run_end)
        if end:
            yield begin.start(), end.end()
        elif run_end == len(data):
            yield begin.start(), None
        done = end.end() if end else run_end


def _common(rest: bytes, chunk: bytes) -> int:
    """How many bytes of `chunk` continue as `rest` says; none when it turns out to be something else."""
    length = min(len(rest), len(chunk))
    return length if rest[:length] == chunk[:length] else 0


def _base64_forms(raw: bytes) -> Iterator[bytes]:
    """The characters of base64 text that `raw` alone decides, whatever stands before and after it."""
    for before in range(3):
        first, last = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
        text = base64.b64encode(bytes(before) + raw + bytes(3))[first:last]
        yield text
        yield text.translate(bytes.maketrans(b"+/", b"-_"))


def _url_forms(raw: bytes) -> Iterator[bytes]:
    safe = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~"
    for template in (b"%%%02X", b"%%%02x"):
        for kept in (safe, safe + b"/"):
            text = b"".join(bytes((byte,)) if byte in kept else template % byte for byte in raw)
            yield text
            yield text.replace(b"%20", b"+")


def _merged(spans: Iterator[tuple[int, int, str]] | list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Sorted, and overlapping ones as one."""
    merged: list[tuple[int, int, str]] = []
    for start, end, kind in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]), merged[-1][2])
        else:
            merged.append((start, end, kind))
    return merged


def _clear_of(spans: list[tuple[int, int, str]], hold: int) -> int:
    """A place to cut that lies inside none of the spans."""
    for start, end, _ in reversed(spans):
        if start < hold < end:
            return start
    return hold


def _replaced(data: bytes, start: int, end: int, spans: list[tuple[int, int, str]]) -> bytes:
    parts = []
    for first, last, kind in spans:
        if last <= end:
            parts += [data[start:first], b"[redacted:%b]" % kind.encode()]
            start = last
    parts.append(data[start:end])
    return b"".join(parts)


def _cut_character(data: bytes) -> int:
    """The number of bytes at the end that are the beginning of one UTF-8 character."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            need = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if need > back else 0
        if byte < 0x80:
            return 0
    return 0
