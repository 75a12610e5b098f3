"""The working directory outside of the sandbox: saved at each turn's end, brought back when the sandbox was lost."""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import json
import os
import tarfile
import zlib

from ...errors import CallFailed, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ...log import Functions

ARCHIVE_BYTES = 8 * 1024 * 1024
# Before compression: a larger tree is not even tried.
TREE_BYTES = 96 * 1024 * 1024
TREE_FILES = 20_000
CALL_SECONDS = 60.0
BLOCK_BYTES = 1 << 20
RESTORED, LOST = "sandbox.files_restored", "sandbox.files_lost"
NOTHING_SAVED = "nothing was saved"
# What a package manager or an interpreter makes again.
SKIPPED = frozenset({"node_modules", ".venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"})

# What reading an archive raises that is not whole.
_DAMAGED = (tarfile.TarError, zlib.error, EOFError, binascii.Error)


class TooLarge(Exception):
    """The tree does not fit into an archive."""


class Snapshot:
    """A tree as tar.gz, and what it holds."""

    def __init__(self, archive: bytes, files: int, size: int) -> None:
        self.archive, self.files, self.size = archive, files, size


def pack(directory: str) -> Snapshot:
    """The tree below `directory`. Raise TooLarge, OSError."""
    names, size = [], 0
    for path, length in _walk(directory):
        names.append(path)
        size += length
        if size > TREE_BYTES or len(names) > TREE_FILES:
            raise TooLarge(f"more than {TREE_BYTES} bytes or {TREE_FILES} files")
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz", compresslevel=1, dereference=False) as tar:
        for path in names:
            tar.add(path, os.path.relpath(path, directory), recursive=False)
            if held.tell() > ARCHIVE_BYTES:
                raise TooLarge(f"more than {ARCHIVE_BYTES} bytes, compressed")
    if held.tell() > ARCHIVE_BYTES:
        raise TooLarge(f"more than {ARCHIVE_BYTES} bytes, compressed")
    return Snapshot(held.getvalue(), len(names), size)


def unpack(archive: bytes, directory: str) -> None:
    """Nothing of an archive that is not whole. Raise tarfile.TarError, zlib.error, EOFError, OSError."""
    with gzip.open(io.BytesIO(archive)) as whole:
        while whole.read(BLOCK_BYTES):
            pass  # tarfile does not read as far as the checksum
    os.makedirs(directory, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        if hasattr(tarfile, "tar_filter"):
            tar.extractall(directory, filter="tar")
        else:
            tar.extractall(directory)  # noqa: S202 it was made by pack(), and an interpreter before 3.9.17 has no filter


def save(functions: Functions, directory: str) -> None:
    """Keep the tree in place of what was kept before. Raise TooLarge, CallFailed, OSError."""
    if not os.path.isdir(directory):
        return
    snapshot = pack(directory)
    archive = base64.b64encode(snapshot.archive).decode()
    body = json.dumps({"archive": archive, "files": snapshot.files, "bytes": snapshot.size}).encode()
    functions.call("save_files_v1", body, CALL_SECONDS)


def bring_back(functions: Functions, directory: str) -> tuple[str, dict[str, Any]]:
    """Restore what was kept; the event that tells how that went.

    Raise Unavailable when the log does not say what it keeps: then nothing was done, and it is worth asking again.
    """
    try:
        kept = functions.call("load_files_v1", b"{}", CALL_SECONDS)
        if not kept:
            return LOST, {"reason": NOTHING_SAVED}
        unpack(base64.b64decode(kept["archive"]), directory)
    except Unavailable:
        raise
    except (CallFailed, OSError, *_DAMAGED) as error:
        return LOST, {"reason": f"{type(error).__name__}: {error}"[:200]}
    return RESTORED, {name: kept[name] for name in ("files", "bytes", "saved_at")}


def left_behind(kind: str, told: dict[str, Any]) -> bool:
    """Whether that event of bring_back tells of kept files that did not come back: save() would destroy them."""
    return kind == LOST and told.get("reason") != NOTHING_SAVED


def _walk(directory: str) -> Iterator[tuple[str, int]]:
    """Files, symbolic links and directories, as they are; nothing that is neither."""
    for place, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if name not in SKIPPED]
        for name in sorted(directories):
            yield os.path.join(place, name), 0
        for name in sorted(files):
            path = os.path.join(place, name)
            if os.path.islink(path) or os.path.isfile(path):
                yield path, os.lstat(path).st_size
