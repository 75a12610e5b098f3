"""Runs inside a sandbox: looks everywhere for secrets, and tries to get out. Prints one JSON object.

Reads {"needles": [...], "open": ["host:port"], "closed": ["host:port"], "fetch": ["http://host/"]} from stdin.
"""

import json
import os
import re
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

JWT = re.compile(rb"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}")
SKIPPED = ("/proc", "/sys", "/dev", "/usr", "/lib", "/lib64", "/bin", "/sbin")
# Read-only and the same in every sandbox: what packages publish about themselves, JWTs as examples among it.
PUBLISHED = ".dist-info/METADATA"
MAX_FILE_BYTES = 20_000_000


def places() -> Iterator[str]:
    """Every process's environment and command line, and every file that is not the system's."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for part in ("environ", "cmdline"):
            yield f"/proc/{pid}/{part}"
    for folder, folders, files in os.walk("/"):
        if folder.startswith(SKIPPED):
            folders.clear()
            continue
        for name in files:
            path = os.path.join(folder, name)
            if not path.endswith(PUBLISHED) or os.access(path, os.W_OK):
                yield path


def read(path: str) -> bytes:
    try:
        if not path.startswith("/proc") and (not os.path.isfile(path) or os.path.getsize(path) > MAX_FILE_BYTES):
            return b""
        with open(path, "rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError:
        return b""


def search(needles: list[str]) -> tuple[list[str], int]:
    """Where a needle or anything that looks like a JWT was found; this program's own arguments do not count."""
    found: list[str] = []
    read_places = 0
    own = f"/proc/{os.getpid()}/"
    for path in places():
        content = read(path)
        read_places += bool(content)
        if path.startswith(own):
            continue
        found += [f"{path}: {needle}" for needle in needles if needle.encode() in content]
        found += [f"{path}: a JWT" for _ in JWT.findall(content)]
    return found, read_places


def reaches(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=3):
            return True
    except OSError:
        return False


def fetches(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def main() -> None:
    wanted = json.loads(sys.stdin.read())
    found, read_places = search(wanted["needles"])
    print(
        json.dumps(
            {
                "found": found,
                "read_places": read_places,
                "open": [address for address in wanted["open"] if reaches(address)],
                "closed": [address for address in wanted["closed"] if reaches(address)],
                "fetched": {url: fetches(url) for url in wanted["fetch"]},
            }
        )
    )


main()
