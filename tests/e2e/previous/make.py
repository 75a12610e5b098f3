"""Makes the runner of an earlier release: `python -m tests.e2e.previous.make COMMIT`, see README.md."""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
# Run in the old tree, with its own modules.
BUILD = """
import sys
sys.path.insert(0, ".")
from functions.bundle import build
made = build()
open(made.name, "wb").write(made.content)
print(made.name)
"""


def make(commit: str) -> Path:
    """The file that the release of this commit puts into sandboxes, less the bytecode. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        tree = f"{folder}/tree.zip"
        subprocess.run(["git", "archive", "--output", tree, commit], cwd=HERE.parents[2], check=True)
        shutil.unpack_archive(tree, folder)
        built = subprocess.run([sys.executable, "-c", BUILD], cwd=folder, capture_output=True, text=True, check=True)
        name = built.stdout.strip()
        return without_bytecode(Path(folder) / name, HERE / name)


def without_bytecode(source: Path, target: Path) -> Path:
    """The same program, half as large."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            if not member.filename.endswith(".pyc"):
                new.writestr(member, old.read(member))
    return target


if __name__ == "__main__":
    make(sys.argv[1])
