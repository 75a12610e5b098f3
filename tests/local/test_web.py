"""The stack's small web site: its pages, what goes wrong there on purpose, and how it ends."""

import json
import threading
from collections.abc import Iterator

import httpx
import pytest

from local.stack import listening
from local.web import PAGES, Web, pages, titles


@pytest.fixture(scope="module")
def site() -> Iterator[Web]:
    web = Web(listening())
    web.start()
    yield web
    web.stop()


def got(site: Web, path: str) -> httpx.Response:
    return httpx.get(f"{site.url}{path}", timeout=30)


def test_every_page_is_served_as_what_it_is(site: Web) -> None:
    """The bytes of its file, with its type; the two indexes name each with its title."""
    types = {".json": "application/json", ".html": "text/html; charset=utf-8"}
    listed = got(site, "/index.json").json()["pages"]
    assert listed == titles()
    assert len(listed) == len(list(PAGES.iterdir())) >= 3
    front = got(site, "/").text
    for page in pages():
        answer = got(site, f"/{page.name}")
        assert (answer.content, answer.headers["content-type"]) == (page.read_bytes(), types[page.suffix])
        assert f'<a href="/{page.name}">{listed[f"/{page.name}"]}</a>' in front


def test_figures_are_dated_and_say_that_they_are_made_up(site: Web) -> None:
    """Nobody shall take them for a market's, nor a town for a real one."""
    prices = got(site, "/prices.json").json()
    assert prices["prices"].keys() == {"bitcoin", "ethereum"}
    assert prices["as_of"] == "2026-11-20"
    assert all("made up" in page.read_text() for page in pages())


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/broken", 500),
        ("/gone", 404),
        ("/nowhere.html", 404),
        ("/../web.py", 404),
        ("/%2e%2e/web.py", 404),
    ],
)
def test_what_goes_wrong(site: Web, path: str, status: int) -> None:
    """On purpose, or because there is no such page; nothing outside the directory is a page."""
    with httpx.Client() as client:
        request = client.build_request("GET", site.url)
        request.url = request.url.copy_with(raw_path=path.encode())
        assert client.send(request).status_code == status


def test_a_head_has_no_body(site: Web) -> None:
    """Only what would be sent."""
    answer = httpx.head(f"{site.url}/prices.json")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) == (PAGES / "prices.json").stat().st_size


def test_a_slow_page_comes_in_the_end(site: Web) -> None:
    """After as many seconds as are asked for; what is no number is none."""
    assert [got(site, f"/slow?seconds={seconds}").text for seconds in ("0.01", "soon")] == ["At last.\n"] * 2


def test_its_end_ends_who_waits() -> None:
    """A slow page holds up its own reader only, and not even that one any longer; the port is closed afterwards."""
    web = Web(listening())
    web.start()
    answers: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(got(web, "/slow?seconds=600")))
    waiting.start()
    assert got(web, "/").is_success
    web.stop()
    waiting.join(30)
    assert not waiting.is_alive()
    with pytest.raises(httpx.TransportError):
        got(web, "/")


def test_it_can_be_stopped_before_it_starts() -> None:
    """As a stack is that never came up."""
    web = Web(listening())
    web.stop()
    with pytest.raises(httpx.TransportError):
        got(web, "/")


def test_the_price_list_is_read_by_line() -> None:
    """A figure a line, as the scripts find them."""
    text = (PAGES / "prices.json").read_text()
    assert all(f'"{coin}": {price:.2f}' in text for coin, price in json.loads(text)["prices"].items())
