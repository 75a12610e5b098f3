"""The runner as one file: a zipapp of `sandbox_scripts`, named by its hash, the same bytes for the same sources.

Bytecode goes along, since compiling takes longer than all else that the runner does before its first event. It is
that of this interpreter, so another version of Python gives another name.
"""

import hashlib
import io
import marshal
import zipfile
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import MAGIC_NUMBER, source_hash

import sandbox_scripts

# Later versions write references where an object happens to be shared, which differs between processes.
MARSHAL_WITHOUT_REFERENCES = 2
UNCHECKED_HASH = (0b01).to_bytes(4, "little")
# A fixed time, since the hash must depend on the sources alone.
EPOCH = (2020, 1, 1, 0, 0, 0)
# The interpreter's arguments before the bundle's path and the job's. They do what `-I runner.pyz job.json` does, but
# neither `runpy`, with all that it imports, nor `site` delays the first event. Who needs site-packages adds them later.
START = (
    "-I", "-S", "-c",
    "import sys; del sys.argv[0]; sys.path.insert(0, sys.argv[0]); "
    "from sandbox_scripts.__main__ import main; sys.exit(main())",
)  # fmt: skip
ENTRY = "import sys\nfrom sandbox_scripts.__main__ import main\nsys.exit(main())\n"


@dataclass(frozen=True)
class Bundle:
    """The runner's bytes and its file name, `runner-<the first 16 digits of its sha256>.pyz`."""

    content: bytes
    name: str


def build() -> Bundle:
    """Zips the runner's sources and their bytecode. Raises OSError when they cannot be read."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        write(archive, "__main__.py", ENTRY.encode())
        for path, source in sorted(sources(files(sandbox_scripts), "sandbox_scripts")):
            write(archive, path, source)
            write(archive, f"{path}c", bytecode(path, source))
    content = buffer.getvalue()
    return Bundle(content, f"runner-{hashlib.sha256(content).hexdigest()[:16]}.pyz")


def sources(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    """Every Python file below, as (path in the zip, text)."""
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            found += sources(entry, f"{prefix}/{entry.name}")
        elif entry.name.endswith(".py"):
            found.append((f"{prefix}/{entry.name}", entry.read_bytes()))
    return found


def bytecode(path: str, source: bytes) -> bytes:
    """What the interpreter would compile, for those of this version; any other reads the source beside it.

    The form is PEP 552's unchecked hash: nothing in it depends on when or where it was made.
    """
    code = compile(source, path, "exec", dont_inherit=True, optimize=0)
    return MAGIC_NUMBER + UNCHECKED_HASH + source_hash(source) + marshal.dumps(code, MARSHAL_WITHOUT_REFERENCES)


def write(archive: zipfile.ZipFile, path: str, content: bytes) -> None:
    """One member with a fixed time and mode."""
    info = zipfile.ZipInfo(path, EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    archive.writestr(info, content)
