"""Claude's transcript outside of the sandbox: mirrored as it grows, and brought back into a new one.

The mirror is the SDK's session store. Its own batches are given up after three tries, so they are only taken over here,
and a thread carries them to append_transcript_v1 until each is answered. Entries have a uuid: a restarted runner
mirrors everything again, and the log drops what it has.
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ...job import Job

BATCH_BYTES = 2 * 1024 * 1024
BATCH_ENTRIES = 500
ENTRY_BYTES = 6 * 1024 * 1024
CALL_SECONDS = 30.0
RETRY_CAP_SECONDS = 5.0
METADATA = "agent_metadata"
TOO_LARGE = "(this was too large to be kept)"


class Mirror:
    """The SDK's SessionStore, write side only."""

    def __init__(self, job: Job) -> None:
        self._functions = Functions(job)
        self._batches: queue.Queue[tuple[str, list[Any]] | None] = queue.Queue()
        self._stopped = False
        self._thread = threading.Thread(target=self._carry, name="transcript", daemon=True)
        self._thread.start()

    async def append(self, key: dict[str, str], entries: list[Any]) -> None:
        """Take entries over."""
        for batch in _batches(entries):
            self._batches.put((key.get("subpath") or "", batch))

    async def load(self, _key: dict[str, str]) -> list[Any] | None:
        """Nothing: restore() has brought it back before the CLI started."""
        return None

    def close(self, seconds: float) -> bool:
        """Wait until all is kept, at most `seconds`; false when it is not."""
        self._batches.put(None)
        self._thread.join(seconds)
        kept = not self._thread.is_alive()
        self._stopped = True
        return kept

    def _carry(self) -> None:
        try:
            while (batch := self._batches.get()) is not None:
                self._keep(*batch)
        except RunnerError:
            pass  # the run is over or another runner's: the shipper learns of it too
        finally:
            self._functions.close()

    def _keep(self, subpath: str, entries: list[Any]) -> None:
        body = json.dumps({"subpath": subpath, "entries": entries}).encode()
        wait = 0.1
        while not self._stopped:
            try:
                self._functions.call("append_transcript_v1", body, CALL_SECONDS)
            except Unavailable:
                time.sleep(wait)
                wait = min(RETRY_CAP_SECONDS, wait * 2)
            except Refused:
                return  # it would be refused for ever, and what follows it is worth keeping
            else:
                return


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


def _batches(entries: list[Any]) -> Iterator[list[Any]]:
    batch: list[Any] = []
    size = 0
    for entry in entries:
        kept, length = _bounded(entry)
        if batch and (size + length > BATCH_BYTES or len(batch) >= BATCH_ENTRIES):
            yield batch
            batch, size = [], 0
        batch.append(kept)
        size += length
    if batch:
        yield batch


def _bounded(entry: Any) -> tuple[Any, int]:
    """An entry that is too large keeps its place in the chain, without its content."""
    length = len(json.dumps(entry))
    if length <= ENTRY_BYTES or not isinstance(entry, dict):
        return entry, length
    lean = {name: value for name, value in entry.items() if len(json.dumps(value)) < 4096}
    if isinstance(entry.get("message"), dict):
        lean["message"] = {"role": entry["message"].get("role", "user"), "content": TOO_LARGE}
    return lean, len(json.dumps(lean))
