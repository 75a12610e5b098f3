"""Which hosts and URLs a request may name."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.errors import InvalidRequest
from functions.hosts import is_opened, open_host, open_url

OPENED = ("git.internal:8080", "10.0.0.7", "*.corp.test", "127.0.0.1:3000")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/a/b.git",
        "https://example.com:8443/sse?key=1",
        "https://8.8.8.8/x",
        "http://git.internal:8080/a/b",
        "https://git.internal:8080/a/b",
        "http://10.0.0.7/x",
        "http://10.0.0.7:80/x",
        "https://10.0.0.7/x",
        "http://wiki.corp.test/x",
        "http://127.0.0.1:3000/repo.git",
    ],
)
def test_urls_that_may_be_reached(url: str) -> None:
    """https to public hosts, and either scheme to what the operator opened; the URL stays as it was written."""
    assert open_url(url, OPENED, "url") == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "http://example.com",
        "ftp://git.internal:8080/a",
        "file:///etc/passwd",
        "ext::sh -c x",
        "https://",
        "https://user@example.com",
        "https://user:word@example.com",
        "https://:word@10.0.0.7",
        "https://localhost",
        "https://127.0.0.1",
        "http://127.0.0.1:3001/repo.git",
        "https://127.1",
        "https://2130706433",
        "https://[::1]/x",
        "https://10.0.0.8",
        "https://example.com:0",
        "https://example.com:99999",
        "https://example.com:x",
        "https://exa mple.com",
        "https://example.com\\@git.internal",
        "https://example.com/\x00",
        "https://example.com/é",
        "https://example.com/\n",
        "https://example.com/" + "x" * 2048,
        "https://*.corp.test/x",
        "https://*.example.com/x",
    ],
)
def test_urls_that_may_not(url: str) -> None:
    """Nothing beside the sandboxes, no password to be shown, nothing that two parsers read differently."""
    with pytest.raises(InvalidRequest) as refused:
        open_url(url, OPENED, "resources.0.url")
    assert refused.value.param == "resources.0.url"


def test_a_wildcard_of_the_operator_opens_what_is_below_it() -> None:
    """Not the name itself, not what only ends like it, and no other wildcard."""
    assert is_opened("wiki.corp.test", OPENED)
    assert is_opened("A.B.Corp.Test", OPENED)
    assert is_opened("*.corp.test", OPENED)
    for entry in ("corp.test", "evilcorp.test", "*.x.corp.test", "wiki.corp.test:8080", ""):
        assert not is_opened(entry, OPENED), entry


def test_a_host_is_public_or_opened() -> None:
    """What is kept is what egress compares: lowercase."""
    assert open_host("Example.com", OPENED, "hosts") == "example.com"
    assert open_host("10.0.0.7", OPENED, "hosts") == "10.0.0.7"
    for entry in ("10.0.0.8", "localhost", "https://example.com", "a..b", ""):
        with pytest.raises(InvalidRequest):
            open_host(entry, OPENED, "hosts")


@given(st.text())
def test_any_text_is_a_url_or_is_refused(text: str) -> None:
    """Nothing that a client can send makes a parser's own error come through."""
    for url in (text, f"https://{text}", f"https://example.com/{text}", f"https://example.com:{text}"):
        with suppress(InvalidRequest):
            assert open_url(url, OPENED, "url") == url
