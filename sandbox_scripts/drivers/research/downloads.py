"""What comes from the network, and whether from a host that may be reached."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import urlsplit

from .values import DOWNLOADED, TRUSTED, marked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .simple import Simple

_LETTERS = {"curl": "AbcCdDeEFHKmoPQrTuUwxXyYzht", "wget": "aAbBDeIiloOPQRStTUwX"}
_LONG = (
    *("--header", "--data", "--data-raw", "--data-binary", "--data-urlencode", "--output", "--request", "--user"),
    *("--user-agent", "--referer", "--form", "--cookie", "--cookie-jar", "--max-time", "--retry", "--connect-timeout"),
    *(
        "--retry-delay",
        "--write-out",
        "--cacert",
        "--cert",
        "--key",
        "--json",
        "--upload-file",
        "--range",
        "--limit-rate",
    ),
    *("--output-document", "--directory-prefix", "--timeout", "--tries", "--post-data", "--method", "--body-data"),
    *("--output-dir", "--max-filesize", "--dump-header", "--ciphers", "--interface", "--form-string"),
)
_DETOURS = (
    "-x",
    "--proxy",
    "--resolve",
    "--connect-to",
    "--config",
    "-K",
    "--socks5",
    "-i",
    "--input-file",
    "--preproxy",
)
_DIALS = (
    "nc",
    "ncat",
    "netcat",
    "telnet",
    "socat",
    "dig",
    "host",
    "nslookup",
    "ftp",
    "tftp",
    "openssl",
    "drill",
    "ssh",
)
_GETS = ("curl", "wget", "fetch", "aria2c", "http", "https", "lynx", "w3m", "links", "elinks", "httpie", "xh", "axel")
_URL = re.compile(r"(?:https?|ftp)://[^\s'\"\\)<>]+")
_FETCHING = re.compile(r"urllib|urlopen|requests|http\.client|httpx|aiohttp|fetch\(|https?\.get|Net::HTTP|LWP|open-uri")


def mark(simple: Simple, hosts: Sequence[str] | None) -> str | None:
    """The mark for what the command prints, when that comes from the network."""
    if simple.name in _DIALS:
        reads = simple.name != "openssl" or "s_client" in simple.arguments
        return (TRUSTED if hosts is None else DOWNLOADED) if reads else None
    if simple.name not in _GETS:
        return None
    detour = hosts is not None and simple.name == "curl" and any(simple.has(option) for option in _DETOURS[:-3])
    return DOWNLOADED if detour else _judged(addresses(simple), hosts)


def mark_of_code(code: str, hosts: Sequence[str] | None) -> str | None:
    """The mark for what a program in another language gets from the network; None when it gets nothing."""
    if not _FETCHING.search(code):
        return None
    return _judged(_URL.findall(code), hosts)


def addresses(simple: Simple) -> list[str]:
    """Every URL that is asked for."""
    letters, found, rest = _LETTERS.get(simple.name, "oO"), [], iter(simple.arguments)
    for word in rest:
        if word == "--url":
            found.append(next(rest, ""))
        elif word.startswith("--"):
            if word in _LONG:
                next(rest, None)
            elif word.startswith("--url="):
                found.append(word[6:])
        elif word.startswith("-") and word != "-":
            if _takes_next(word[1:], letters):
                next(rest, None)
        else:
            found.append(word)
    return found


def targets(simple: Simple) -> list[str]:
    """The files that are written."""
    if simple.name not in _GETS:
        return []
    option = ("-O", "--output-document") if simple.name == "wget" else ("-o", "--output")
    if (target := _value(simple, option)) is not None:
        return [] if target in ("-", "/dev/stdout") else [target]
    folder = simple.value("-P", "--directory-prefix") if simple.name == "wget" else simple.value("--output-dir")
    kept = simple.name in ("wget", "aria2c", "axel") or simple.has("-O", "--remote-name", "-J")
    names = [posixpath.basename(urlsplit(url).path) or "index.html" for url in addresses(simple)] if kept else []
    return [posixpath.join(folder or "", name) for name in names]


def prints(simple: Simple) -> bool:
    """Whether what is fetched goes to standard output."""
    return not targets(simple)


def allowed(url: str, hosts: Sequence[str] | None) -> bool:
    """Whether the URL's host is among these, or below a `*.name` among them."""
    if hosts is None:
        return True
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        host, place = (parts.hostname or "").lower(), parts.netloc.rsplit("@", 1)[-1].lower()
    except ValueError:
        return False
    if not host or marked(host) or re.search(r"[{}\[\]\\]", url.split("?")[0]):
        return False  # curl has globs of its own
    return any(entry.lower() in (host, place) or _below(host, entry.lower()) for entry in hosts)


def _below(host: str, entry: str) -> bool:
    return entry.startswith("*.") and host.endswith(entry[1:])


def _judged(urls: list[str], hosts: Sequence[str] | None) -> str:
    if hosts is None:
        return TRUSTED
    return TRUSTED if urls and all(allowed(url, hosts) for url in urls) else DOWNLOADED


def _takes_next(cluster: str, letters: str) -> bool:
    """Whether the next word belongs to these short options: the first that takes a value is the last of them."""
    places = [place for place, letter in enumerate(cluster) if letter in letters]
    return bool(places) and places[0] == len(cluster) - 1


def _value(simple: Simple, option: tuple[str, str]) -> str | None:
    short, long = option
    letter, words = short[1], simple.arguments
    for place, word in enumerate(words):
        if word == long:
            return "".join(words[place + 1 : place + 2])
        if word.startswith(long + "="):
            return word[len(long) + 1 :]
        if word.startswith("-") and not word.startswith("--") and letter in word:
            after = word.split(letter, 1)[1]
            return after or "".join(words[place + 1 : place + 2])
    return None
