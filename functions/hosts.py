"""Which places a request may name: public hosts over https, and whatever the operator has opened by EGRESS_ALLOW."""

import re
from urllib.parse import SplitResult, urlsplit

from functions.errors import InvalidRequest
from functions.models import host
from functions.settings import netloc

MAX_URL_LENGTH = 2048
# What a URL is written with: printable ASCII, and no backslash, which some parsers take for a slash.
URL = re.compile(r"[!-\[\]-~]+")


def open_host(entry: str, opened: tuple[str, ...], param: str) -> str:
    """A host, `*.name` or IPv4 address, with or without a port. Raises InvalidRequest for what is not to be reached."""
    if is_opened(entry, opened):
        return entry
    try:
        return host(entry)
    except ValueError as error:
        raise InvalidRequest(str(error), param=param) from error


def open_url(url: str, opened: tuple[str, ...], param: str) -> str:
    """The URL as it is: https to a public host, or http as well to one of EGRESS_ALLOW.

    Raises InvalidRequest, also for a URL that holds a name or a password: whoever reads the answer would see it.
    """
    parts = split(url, param)
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest("must not hold a name or a password", param=param)
    if is_opened(netloc(url), opened) and parts.scheme in ("http", "https"):
        return url
    if parts.scheme != "https":
        raise InvalidRequest("must be an https URL", param=param)
    open_host(netloc(url), opened, param)
    return url


def split(url: str, param: str) -> SplitResult:
    """A URL in its parts, its port checked. Raises InvalidRequest for what is none."""
    try:
        parts = urlsplit(url)
        is_url = parts.hostname is not None and "*" not in parts.hostname and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or len(url) > MAX_URL_LENGTH or not URL.fullmatch(url):
        raise InvalidRequest("must be a URL", param=param)
    return parts


def is_opened(entry: str, opened: tuple[str, ...]) -> bool:
    """Whether the operator's list has this host, or a wildcard above it."""
    lowered = entry.lower()
    wildcards = (name[1:] for name in opened if name.startswith("*."))
    return lowered in opened or any(lowered.endswith(suffix) and "*" not in lowered for suffix in wildcards)
