"""The files of a sandbox, seen from inside, so that no link can lead outside. Standard library only (Python 3.9+)."""

# pathlib would be a good part of every sandbox's start.
# ruff: noqa: PTH103, PTH104, PTH108, PTH115, PTH116, PTH118, PTH119, PTH120, PTH208

from __future__ import annotations

import errno
import os
import stat

from local.e2b.envd_wire import CHUNK_BYTES, DATA, Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

ATTRIBUTE = "user.e2b."


class Files:
    """File operations of the user. Paths that are not absolute start at `home`; `root` is put before those of
    `MAPPED` when the sandbox is only a directory (no isolation), and empty otherwise."""

    MAPPED = ("/home/user", "/tmp", "/app", "/opt/sandstream", "/run")  # noqa: S108 they are inside the sandbox

    def __init__(self, home: str, root: str) -> None:
        self.home = home
        self.root = root

    def resolve(self, path: str) -> str:
        """The absolute path that is meant. Raises ValueError for one with a NUL byte."""
        if "\0" in path:
            raise ValueError("a path holds no NUL byte")
        if path == "~" or path.startswith("~/"):
            path = self.home + path[1:]
        path = os.path.normpath(os.path.join(self.home, path))
        return self.root + path if self._is_mapped(path) else path

    def stat(self, path: str) -> dict[str, Any]:
        """Raises OSError."""
        return self.entry(self.resolve(path))

    def make_dir(self, path: str) -> dict[str, Any]:
        """With its parents. Raises FileExistsError when it is there already."""
        target = self.resolve(path)
        os.makedirs(target)
        return self.entry(target)

    def move(self, source: str, destination: str) -> dict[str, Any]:
        """Also between mounts; parents are made. Raises OSError."""
        old, new = self.resolve(source), self.resolve(destination)
        os.lstat(old)
        os.makedirs(os.path.dirname(new), exist_ok=True)
        try:
            os.rename(old, new)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _shutil().move(old, new)
        return self.entry(new)

    def remove(self, path: str) -> None:
        """A tree too; nothing there is no error. A link is removed, not what it points to."""
        target = self.resolve(path)
        try:
            if stat.S_ISDIR(os.lstat(target).st_mode):
                _shutil().rmtree(target)
            else:
                os.unlink(target)
        except FileNotFoundError:
            return

    def list_dir(self, path: str, depth: int) -> list[dict[str, Any]]:
        """What is below a directory, `depth` levels deep (0 means 1), by name. Raises OSError."""
        found: list[dict[str, Any]] = []
        self._collect(self.resolve(path), max(depth, 1), found)
        return found

    def read(self, path: str, connection: Connection) -> None:
        """Send the entry, then the content, then an empty chunk. Raises OSError before anything was sent."""
        target = self.resolve(path)
        fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise IsADirectoryError(errno.EISDIR, "is not a regular file", target)
            connection.send_json({"entry": self.entry(target)})
            while chunk := os.read(fd, CHUNK_BYTES):
                connection.send(DATA, chunk)
            connection.send(DATA, b"")
        finally:
            os.close(fd)

    def write(self, path: str, metadata: dict[str, str], connection: Connection) -> None:
        """Say that the file is open, take its content until an empty chunk, and answer with the entry.

        Parents are made. Raises OSError.
        """
        target = self.resolve(path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
        try:
            connection.send_json({})
            _take(fd, connection)
            _set_metadata(fd, metadata)
        finally:
            os.close(fd)
        connection.send_json({"entry": self.entry(target)})

    def entry(self, path: str) -> dict[str, Any]:
        """One entry as envd describes it; the type of a link is that of its target. Raises OSError."""
        own = os.lstat(path)
        is_link = stat.S_ISLNK(own.st_mode)
        return {
            "name": os.path.basename(path) or "/",
            "type": _type(path, own.st_mode),
            "path": self._outside(path),
            "size": own.st_size,
            "mode": stat.S_IMODE(own.st_mode),
            "permissions": stat.filemode(own.st_mode),
            "owner": _owner(own.st_uid, os.getuid()),
            "group": _owner(own.st_gid, os.getgid()),
            "modified": own.st_mtime,
            "symlink_target": os.readlink(path) if is_link else None,
            "metadata": {} if is_link else _metadata(path),
        }

    def _collect(self, directory: str, depth: int, found: list[dict[str, Any]]) -> None:
        for name in sorted(os.listdir(directory)):
            try:
                entry = self.entry(os.path.join(directory, name))
            except FileNotFoundError:
                continue  # gone between the listing and the look
            found.append(entry)
            if depth > 1 and entry["type"] == "directory" and entry["symlink_target"] is None:
                self._collect(os.path.join(directory, name), depth - 1, found)

    def _is_mapped(self, path: str) -> bool:
        if not self.root or path.startswith(self.root + "/"):
            return False
        return any(path == place or path.startswith(place + "/") for place in self.MAPPED)

    def _outside(self, path: str) -> str:
        return path[len(self.root) :] if self.root and path.startswith(self.root + "/") else path


def _shutil() -> ModuleType:
    # Imported when first used: it brings every compression library with it.
    import shutil

    return shutil


def _take(fd: int, connection: Connection) -> None:
    failure = None
    while chunk := connection.receive()[1]:
        try:
            while chunk and failure is None:
                chunk = chunk[os.write(fd, chunk) :]
        except OSError as error:
            # The rest is read all the same: the peer listens for the failure only when it has sent everything.
            failure = error
    if failure is not None:
        raise failure


def _type(path: str, mode: int) -> str:
    if stat.S_ISLNK(mode):
        try:
            mode = os.stat(path).st_mode
        except OSError:
            return "symlink"
    return "directory" if stat.S_ISDIR(mode) else "file"


def _owner(number: int, own: int) -> str:
    if number == own:
        return "user"
    return "root" if number == 0 else str(number)


def _metadata(path: str) -> dict[str, str]:
    try:
        names = [name for name in os.listxattr(path) if name.startswith(ATTRIBUTE)]
        return {name[len(ATTRIBUTE) :]: os.getxattr(path, name).decode("utf-8", "replace") for name in names}
    except OSError:
        return {}  # a file system without extended attributes


def _set_metadata(fd: int, metadata: dict[str, str]) -> None:
    for name, value in metadata.items():
        try:
            os.setxattr(fd, ATTRIBUTE + name, value.encode())
        except OSError:
            return  # a file system without extended attributes
