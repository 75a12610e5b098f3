"""Commands from data files: a section for each rule, one command a line; lines that begin with a tab go on with it."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
HOSTS = ("files.example.org", "*.mirror.example.org")


def commands(name: str) -> list[tuple[str, str]]:
    """Each command of a file with the section it is in, in the file's order."""
    found: list[tuple[str, str]] = []
    section = ""
    for line in (FOLDER / f"{name}.txt").read_text().splitlines():
        if line.startswith("[") and line.endswith("]") and " " not in line:
            section = line[1:-1]
        elif line.startswith("\t"):
            found[-1] = (section, f"{found[-1][1]}\n{line[1:]}")
        elif line:
            found.append((section, line))
    return found
