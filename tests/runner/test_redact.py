"""Redaction: no secret gets through, wherever the stream is cut, and nothing else is touched."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_scripts import redact
from sandbox_scripts.redact import KINDS, Redactor, literal_forms, redact_text

# Put together here, so that no scanner takes this file for a leak.
SAMPLES = {
    "anthropic_key": "sk-" + "ant-api03-" + "Ab1_" * 20,
    "openai_key": "sk-" + "proj-" + "x1Y2" * 10,
    "github_token": "gh" + "p_" + "a1B2" * 9,
    "gitlab_token": "gl" + "pat-" + "a1B2" * 5,
    "aws_access_key": "AK" + "IA" + "ABCD1234EFGH5678",
    "slack_token": "xo" + "xb-" + "123456789012-abcdefABCDEF",
    "stripe_key": "sk_" + "live_" + "a1B2c3D4" * 3,
    "supabase_key": "sb_" + "secret_" + "a1B2c3D4_e5F6g7H8",
    "e2b_key": "e2" + "b_" + "0123456789abcdef" * 3,
    "google_key": "AI" + "za" + "a1B2c" * 7,
    "huggingface_token": "h" + "f_" + "aBcD" * 9,
    "npm_token": "np" + "m_" + "a1B2" * 9,
    "jwt": "ey" + "JhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0." + "c2lnbmF0dXJlLWhlcmU",
    "private_key": "-----BEGIN RSA "
    + "PRIVATE KEY-----\n"
    + "MIIEabc+/9\n" * 30
    + "-----END RSA "
    + "PRIVATE KEY-----",
}
VALUE = "correct horse/battery+staple=é"
FORMS = literal_forms([VALUE, "hunter2"])


def streamed(raw: bytes, cuts: list[int], forms: list[bytes] = FORMS) -> bytes:
    """Feed a stream as a tail does: what is not consumed comes again with more behind it."""
    redactor, shown, offset = Redactor(forms), b"", 0
    for border in [*sorted(cuts), len(raw)]:
        cut = redactor.cut(raw[offset:border])
        shown, offset = shown + cut.text, offset + cut.consumed
    return shown + redactor.cut(raw[offset:], end=True).text


@pytest.mark.parametrize("kind", SAMPLES)
def test_each_kind_is_known(kind: str) -> None:
    """Every service's key is replaced by its kind, in quotes, after = and in a URL."""
    secret = SAMPLES[kind]
    text = f'key="{secret}" x={secret}\nhttps://h/?k={secret} end'
    assert redact_text(text, []) == text.replace(secret, f"[redacted:{kind}]")


@pytest.mark.parametrize("kind", SAMPLES)
@pytest.mark.parametrize("colour", ["\x1b[31m", "\x1b[01;31m\x1b[K", "\x1b[m", "\x1b[0K"])
def test_a_colour_does_not_hide_a_key(kind: str, colour: str) -> None:
    """What grep or a logger paints is redacted all the same, also where the stream is cut inside it."""
    raw = f"found: {colour}{SAMPLES[kind]}\x1b[0m\n".encode()
    expected = raw.replace(SAMPLES[kind].encode(), f"[redacted:{kind}]".encode())
    for cut in range(0, len(raw), 5):
        assert streamed(raw, [cut]) == expected, cut


def test_every_kind_has_a_sample() -> None:
    """A kind without a sample would be a kind without a test."""
    assert {kind.name for kind in KINDS} | {"private_key"} == set(SAMPLES)


def test_an_aws_secret_is_known_by_its_name() -> None:
    """Forty characters are no secret by themselves; after that name they are."""
    key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    assert redact_text(f"AWS_SECRET_ACCESS_KEY={key}\n", []) == "AWS_SECRET_ACCESS_KEY=[redacted:aws_secret_key]\n"
    assert redact_text(f"sha={key}\n", []) == f"sha={key}\n"


@pytest.mark.parametrize(
    "text",
    [
        "sk-circle-fade-dot-animation-long-name here",
        "task: risk-free, desk-top, eyJust words",
        "npm_config_cache=/tmp hf_hub AKIA sk- ghp_ -----BEGIN CERTIFICATE-----",
        'if "-----BEGIN RSA PRIVATE KEY-----" in text: pass',
        "sb_publishable_abcdefghijklmnopqrst",
        "日本語 — ordinary text… 100 %",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    """What only resembles a key stays readable."""
    assert redact_text(text, FORMS) == text


@pytest.mark.parametrize(
    "form",
    [
        VALUE,
        urllib.parse.quote(VALUE, safe=""),
        urllib.parse.quote(VALUE),
        urllib.parse.quote_plus(VALUE),
        json.dumps(VALUE)[1:-1],
        VALUE.encode().hex(),
    ],
)
def test_a_value_is_found_in_each_of_its_forms(form: str) -> None:
    """As it is, URL-encoded, as JSON writes it, in hex."""
    assert redact_text(f"a {form} b", FORMS) == "a [redacted:value] b"


@given(before=st.binary(max_size=7), after=st.binary(max_size=7), urlsafe=st.booleans())
def test_a_value_inside_base64_is_found_at_every_alignment(before: bytes, after: bytes, urlsafe: bool) -> None:
    """`user:secret` in a Basic header gives the secret away just as well."""
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    text = encode(before + VALUE.encode() + after).decode()
    shown = redact_text(text, FORMS)
    assert "[redacted:value]" in shown
    assert len(shown.replace("[redacted:value]", "")) <= len(encode(before + b"xx" + after)) + 4


SECRETS = st.sampled_from([*SAMPLES.values(), VALUE, "hunter2"])
PROSE = st.text('abc sk-eyJ.=_/é日\n"-', max_size=12)


@settings(max_examples=400, deadline=None)
@given(parts=st.lists(PROSE | SECRETS.map(lambda s: f" {s} "), max_size=6), data=st.data())
def test_where_the_stream_is_cut_makes_no_difference(parts: list[str], data: st.DataObject) -> None:
    """The text is the same for every way of cutting, and holds no secret."""
    raw = "".join(parts).encode()
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=12))
    shown = streamed(raw, cuts)
    assert shown == Redactor(FORMS).cut(raw, end=True).text
    for secret in [*SAMPLES.values(), VALUE, "hunter2"]:
        assert secret.encode() not in shown


@given(raw=st.binary(max_size=60), data=st.data())
def test_any_bytes_come_out_whole(raw: bytes, data: st.DataObject) -> None:
    """Bytes without a secret pass unchanged, however they are cut, valid UTF-8 or not."""
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=12))
    assert streamed(raw, cuts, []) == raw


@pytest.mark.parametrize("secret", [*SAMPLES.values(), VALUE])
def test_a_secret_that_pauses_in_the_middle_is_redacted_from_both_sides(secret: str) -> None:
    """When no more can be waited for, the beginning is redacted, and so is the rest when it comes."""
    raw = secret.encode()
    middle = 40 if secret == SAMPLES["private_key"] else len(raw) // 2
    redactor = Redactor(FORMS)
    first = redactor.cut(b"x " + raw[:middle], force=True)
    assert first.consumed == middle + 2
    second = redactor.cut(raw[middle : middle + 3])
    third = redactor.cut(raw[middle + second.consumed :] + b'" y\n', end=True)
    shown = first.text + second.text + third.text
    assert shown.startswith(b"x [redacted:")
    assert shown.endswith(b'" y\n')
    assert raw[:middle] not in shown
    assert raw[middle:] not in shown
    assert len(shown) < 60


def test_ordinary_output_is_not_held_back() -> None:
    """A prompt, a progress bar or half a line is shown at once."""
    for text in (b"Password: ", b"........", b"50%", b"compiling foo.rs"):
        assert Redactor(FORMS).cut(text).consumed == len(text)


def test_short_values_are_not_redacted() -> None:
    """A value of three letters would redact half the output."""
    assert redact_text("yes or no", literal_forms(["yes", ""])) == "yes or no"


def test_a_value_that_ends_with_its_own_beginning_is_not_cut() -> None:
    """`abcab` at the border: its last two letters could begin another one, so it waits whole."""
    assert streamed(b"x abcab y", [7], literal_forms(["abcab"])) == b"x [redacted:value] y"


class Counted:
    """A pattern that counts the bytes it looks at, at least."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self.pattern, self.bytes, self.calls = pattern, 0, 0

    def __getattr__(self, name: str) -> Any:
        def method(data: bytes, start: int = 0, end: int | None = None) -> Any:
            end = len(data) if end is None else end
            found = getattr(self.pattern, name)(data, start, end)
            self.bytes += (found.end() if isinstance(found, re.Match) else end) - start
            self.calls += 1
            return found

        return method


BEGIN, END = (b"-----%b RSA " % word + b"PRIVATE KEY-----\n" for word in (b"BEGIN", b"END"))


@pytest.mark.parametrize("between", [b"", b"MIIE\n", b'"', b"-----END CERTIFICATE-----"])
@pytest.mark.parametrize("last", [b'"', b"", END, END + b'"'])
def test_many_beginnings_of_keys_cost_no_more_than_their_bytes(
    monkeypatch: pytest.MonkeyPatch, between: bytes, last: bytes
) -> None:
    """Not each beginning looks through all that follows it."""
    raw = (BEGIN + between) * 3000 + last
    counted = [Counted(value) for name, value in vars(redact).items() if name.startswith("_PEM_")
               and isinstance(value, re.Pattern)]  # fmt: skip
    for name, value in list(vars(redact).items()):
        for count in counted:
            if value is count.pattern:
                monkeypatch.setattr(redact, name, count)
    Redactor([]).cut(raw)
    Redactor([]).cut(raw, force=True)
    assert 0 < sum(count.bytes for count in counted) <= 20 * len(raw)


def test_blocks_begin_and_end_as_they_stand() -> None:
    """From the first beginning to the first end after it; what is cut by another character is none."""
    key, other = b"MIIE" * 9, b"MIIF" * 9
    raw = (
        BEGIN + key + END + b"text" + BEGIN + b'"' + BEGIN + other + BEGIN + key + END + END + b"x" + BEGIN + key + b"'"
    )
    shown = b"[redacted:private_key]"
    end, begin = END[-1:], BEGIN
    wanted = shown + end + b"text" + begin + b'"' + shown + end + END + b"x" + begin + key + b"'"
    assert Redactor([]).cut(raw, end=True).text == wanted
    for cut in range(len(raw)):
        assert streamed(raw, [cut], []) == wanted, cut


@pytest.mark.parametrize(("kind", "raw"), [("openai_key", b"sk-" * 50), ("jwt", b"eyJ-" * 50)])
def test_what_resembles_many_keys_is_looked_through_once(kind: str, raw: bytes) -> None:
    """A run that is no key is none at any of its beginnings either."""
    pattern = next(known.pattern for known in KINDS if known.name == kind)
    assert [match.span() for match in pattern.finditer(raw)] == [(0, len(raw))]
    assert Redactor([]).cut(raw, end=True).text == raw


def test_a_key_behind_what_only_resembles_one_is_found() -> None:
    """In the next word, or after the first part of another token."""
    key, token = SAMPLES["openai_key"], SAMPLES["jwt"]
    assert redact_text(f"sk-a-name-without-digits {key}", []) == "sk-a-name-without-digits [redacted:openai_key]"
    assert redact_text(f"eyJabcdefgh.x,{token}", []) == "eyJabcdefgh.x,[redacted:jwt]"
