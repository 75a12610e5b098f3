"""Claude's transcript outside of the sandbox: mirrored as it grows, and brought back into a new one.

The mirror is the SDK's session store. Its own batches are given up after three tries, so they are only taken over here,
and a thread carries them to append_transcript_v1 until each is answered. Entries have a uuid: a restarted runner
mirrors everything again, and the log drops what it has.

An entry never takes another one with it: what jsonb refuses is replaced, and of what the log refuses all the same only
the place in the chain is kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
import time

from ...errors import CallFailed, Refused, RunnerError, Unavailable
from ...log import Functions
from ...spool import clean
from .blocks import Cleaner
from .cli import config_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ...job import Job

BATCH_BYTES = 2 * 1024 * 1024
BATCH_ENTRIES = 500
ENTRY_BYTES = 6 * 1024 * 1024
# A field of an entry that is shorter is not its content.
FIELD_BYTES = 4096
CALL_SECONDS = 30.0
RETRY_CAP_SECONDS = 5.0
METADATA = "agent_metadata"
TOO_LARGE = "(this was too large to be kept)"
UNKEEPABLE = "(this could not be kept)"
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


class Mirror:
    """The SDK's SessionStore, write side only; and the same without the SDK, see mirror()."""

    def __init__(self, job: Job) -> None:
        self._functions = Functions(job)
        self._batches: queue.Queue[tuple[str, list[bytes]] | None] = queue.Queue()
        self._stopped = False
        self._whole = True
        self._thread = threading.Thread(target=self._carry, name="transcript", daemon=True)
        self._thread.start()

    async def append(self, key: dict[str, str], entries: list[Any]) -> None:
        """Take entries over."""
        self._take(key.get("subpath") or "", entries)

    def mirror(self, line: dict[str, Any]) -> None:
        """Take over the entries of a line of the CLI's of type `transcript_mirror`: {"filePath", "entries"}.

        Nothing is taken of a line whose path is no transcript's. It does not wait for the log.
        """
        subpath, entries = transcript(line.get("filePath")), line.get("entries")
        if subpath is not None and isinstance(entries, list):
            self._take(subpath, entries)

    async def load(self, _key: dict[str, str]) -> list[Any] | None:
        """Nothing: restore() has brought it back before the CLI started."""
        return None

    def close(self, seconds: float) -> bool:
        """Wait until all is kept, at most `seconds`; false when it is not, or when an entry was left out."""
        self._batches.put(None)
        self._thread.join(seconds)
        kept = not self._thread.is_alive() and self._whole
        self._stopped = True
        return kept

    def _take(self, subpath: str, entries: list[Any]) -> None:
        for batch in _batches(entries):
            self._batches.put((subpath, batch))

    def _carry(self) -> None:
        try:
            while (batch := self._batches.get()) is not None:
                self._keep(*batch)
        except RunnerError:
            self._whole = False  # the run is over or another runner's: the shipper learns of it too
        finally:
            self._functions.close()

    def _keep(self, subpath: str, entries: list[bytes]) -> None:
        """In halves what is refused, down to the one entry that the log does not take."""
        if self._delivered(subpath, entries):
            return
        if len(entries) > 1:
            middle = len(entries) // 2
            self._keep(subpath, entries[:middle])
            self._keep(subpath, entries[middle:])
        elif not self._delivered(subpath, [_json(_lean(json.loads(entries[0]), UNKEEPABLE))]):
            self._whole = False

    def _delivered(self, subpath: str, entries: list[bytes]) -> bool:
        """False when the log refuses them for what they are; true as well when there is no more time."""
        body = b'{"subpath":%b,"entries":[%b]}' % (_json(subpath), b",".join(entries))
        wait = 0.1
        while not self._stopped:
            try:
                self._functions.call("append_transcript_v1", body, CALL_SECONDS)
            except Unavailable:
                time.sleep(wait)
                wait = min(RETRY_CAP_SECONDS, wait * 2)
            except Refused:
                return False
            else:
                return True
        self._whole = False
        return True


def transcript(path: Any) -> str | None:
    """Which transcript of its session lies at that path: '' for the conversation itself; None when none does.

    As claude_agent_sdk._internal.session_store.file_path_to_session_key.
    """
    if not isinstance(path, str) or not path:
        return None
    parts = os.path.relpath(path, os.path.join(config_directory(), "projects")).split(os.sep)
    if parts[0] == os.pardir:
        return None
    if len(parts) == 2:
        return "" if parts[1].endswith(".jsonl") else None
    return "/".join(parts[2:]).removesuffix(".jsonl") if len(parts) >= 4 else None


def restore(functions: Functions, session_id: str, project: str) -> bool:
    """Write the transcripts into the CLI's directory of this project. False when there are none.

    Raises CallFailed when the log does not give them.
    """
    found = False
    for subpath in functions.call("list_transcripts_v1", b"{}") or []:
        path = os.path.join(project, session_id, *str(subpath).split("/")) if subpath else _main(project, session_id)
        entries = list(_pages(functions, str(subpath)))
        if entries and _inside(project, path):
            found = found or not subpath
            _write(path, entries)
    return found


def local_transcript(config: str, session_id: str) -> str | None:
    """The conversation's transcript in the CLI's own directory, if it is there."""
    projects = os.path.join(config, "projects")
    for name in os.listdir(projects) if os.path.isdir(projects) else ():
        path = _main(os.path.join(projects, name), session_id) + ".jsonl"
        if os.path.exists(path):
            return path
    return None


def uuids(path: str) -> set[Any]:
    """The names of a transcript's entries. A line that the CLI was killed in has none."""
    found = set()
    with open(path, encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError, AttributeError):
                found.add(json.loads(line).get("uuid"))
    return found


def _main(project: str, session_id: str) -> str:
    return os.path.join(project, session_id)


def _pages(functions: Functions, subpath: str) -> Iterator[Any]:
    after, more = 0, True
    while more:
        body = json.dumps({"subpath": subpath, "after": after}).encode()
        page = functions.call("load_transcript_v1", body, CALL_SECONDS)
        if not isinstance(page, dict):
            raise CallFailed("load_transcript_v1 answered something else")
        for row in page["entries"]:
            after = int(row["n"])
            yield row["entry"]
        more = bool(page["more"] and page["entries"])


def _write(path: str, entries: list[Any]) -> None:
    """One JSON line each; what the SDK calls metadata goes into a file beside, the last one counting."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    metadata = None
    with open(path + ".jsonl", "w", encoding="utf-8") as file:
        for entry in entries:
            if isinstance(entry, dict) and entry.get("type") == METADATA:
                metadata = {name: value for name, value in entry.items() if name != "type"}
            else:
                file.write(json.dumps(entry, separators=(",", ":")) + "\n")
    if metadata is not None:
        with open(path + ".meta.json", "w", encoding="utf-8") as file:
            json.dump(metadata, file)


def _inside(project: str, path: str) -> bool:
    """A subpath may not lead out of the project's directory."""
    return os.path.normpath(path) == path and path.startswith(project + os.sep)


def _batches(entries: list[Any]) -> Iterator[list[bytes]]:
    """The entries as JSON."""
    batch: list[bytes] = []
    size = 0
    for entry in entries:
        kept = _bounded(entry)
        if batch and (size + len(kept) > BATCH_BYTES or len(batch) >= BATCH_ENTRIES):
            yield batch
            batch, size = [], 0
        batch.append(kept)
        size += len(kept)
    if batch:
        yield batch


def _bounded(entry: Any) -> bytes:
    """An entry that is too large keeps its place in the chain, without its content."""
    kept = _json(entry)
    return kept if len(kept) <= ENTRY_BYTES else _json(_lean(entry, TOO_LARGE))


def _lean(entry: Any, note: str) -> Any:
    """What an entry is, without what it holds."""
    if not isinstance(entry, dict):
        return entry
    lean = {name: value for name, value in entry.items() if len(_json(value)) < FIELD_BYTES}
    if isinstance(entry.get("message"), dict):
        lean["message"] = {"role": entry["message"].get("role", "user"), "content": note}
    return lean


def _json(value: Any) -> bytes:
    """As jsonb takes it. What it does not take is replaced as in events, and then what is nested very deeply too."""
    try:
        text = _encode(value)
        if "\\u0000" not in text:
            return text.encode()
    except (ValueError, RecursionError):
        pass
    return _encode(clean(Cleaner(str).value(value))).encode()
