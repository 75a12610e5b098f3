"""Watching a directory with inotify, which the standard library does not wrap. Runs inside (Python 3.9+)."""

# pathlib would be a good part of every sandbox's start.
# ruff: noqa: PTH112, PTH116, PTH118

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

EVENT = struct.Struct("iIII")
MODIFY, ATTRIB, MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x2, 0x4, 0x40, 0x80, 0x100, 0x200
IGNORED, IS_DIRECTORY = 0x8000, 0x40000000
MASK = MODIFY | ATTRIB | MOVED_FROM | MOVED_TO | CREATE | DELETE
# A file that is moved in is new here: envd's library (fsnotify) says the same.
NAMES = {CREATE: "create", MOVED_TO: "create", MODIFY: "write", DELETE: "remove", MOVED_FROM: "rename", ATTRIB: "chmod"}


class Watch:
    """Changes below a directory; `recursive` takes in the directories below it, those that come later too."""

    def __init__(self, path: str, recursive: bool) -> None:
        """Raises OSError: no such directory, or too many watches."""
        os.stat(path)
        if not os.path.isdir(path):
            raise NotADirectoryError(20, "is not a directory", path)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._top = path
        self._recursive = recursive
        self._directories: dict[int, str] = {}
        self._fd = self._libc.inotify_init1(os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._add(path)

    def events(self) -> Iterator[tuple[str, str]]:
        """(name relative to the directory, kind of change), for ever. Raises OSError after `close()`."""
        while True:
            block = os.read(self._fd, 64 * 1024)
            offset = 0
            while offset < len(block):
                descriptor, mask, _, length = EVENT.unpack_from(block, offset)
                name = block[offset + EVENT.size : offset + EVENT.size + length].rstrip(b"\0")
                offset += EVENT.size + length
                yield from self._read(descriptor, mask, os.fsdecode(name))

    def close(self) -> None:
        """Stop watching."""
        os.close(self._fd)

    def _read(self, descriptor: int, mask: int, name: str) -> Iterator[tuple[str, str]]:
        if mask & IGNORED:
            self._directories.pop(descriptor, None)
            return
        directory = self._directories.get(descriptor)
        kind = next((word for bit, word in NAMES.items() if mask & bit), None)
        if directory is None or kind is None or not name:
            return
        path = os.path.join(directory, name)
        if kind == "create" and mask & IS_DIRECTORY and self._recursive:
            self._add_quietly(path)
        yield os.path.relpath(path, self._top), kind

    def _add(self, path: str) -> None:
        descriptor = self._libc.inotify_add_watch(self._fd, os.fsencode(path), MASK)
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", path)
        self._directories[descriptor] = path
        if self._recursive:
            for entry in os.scandir(path):
                if entry.is_dir(follow_symlinks=False):
                    self._add_quietly(entry.path)

    def _add_quietly(self, path: str) -> None:
        try:
            self._add(path)
        except FileNotFoundError:
            return  # gone again
