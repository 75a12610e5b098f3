"""The runner as one file: a zipapp of `sandbox_scripts`, the same bytes for the same sources, named by their hash."""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

import sandbox_scripts

# A fixed time, since the hash must depend on the sources alone.
EPOCH = (2020, 1, 1, 0, 0, 0)
ENTRY = "import sys\nfrom sandbox_scripts.__main__ import main\nsys.exit(main())\n"


@dataclass(frozen=True)
class Bundle:
    """The runner's bytes and its file name, `runner-<the first 16 digits of its sha256>.pyz`."""

    content: bytes
    name: str


def build() -> Bundle:
    """Zips the runner's sources. Raises OSError when they cannot be read."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        write(archive, "__main__.py", ENTRY)
        for path, source in sorted(sources(files(sandbox_scripts), "sandbox_scripts")):
            write(archive, path, source)
    content = buffer.getvalue()
    return Bundle(content, f"runner-{hashlib.sha256(content).hexdigest()[:16]}.pyz")


def sources(folder: Traversable, prefix: str) -> list[tuple[str, str]]:
    """Every Python file below, as (path in the zip, text)."""
    found: list[tuple[str, str]] = []
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            found += sources(entry, f"{prefix}/{entry.name}")
        elif entry.name.endswith(".py"):
            found.append((f"{prefix}/{entry.name}", entry.read_text(encoding="utf-8")))
    return found


def write(archive: zipfile.ZipFile, path: str, text: str) -> None:
    """One member with a fixed time and mode."""
    info = zipfile.ZipInfo(path, EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    archive.writestr(info, text)
