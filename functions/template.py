"""Builds and publishes the sandboxes' template at E2B: `python -m functions.template [NAME]`, with E2B_API_KEY set.

Afterwards E2B_TEMPLATE=NAME makes sandboxes from it. It has the runner of this tree; endpoints of another tree upload
theirs, which takes longer and works as well.
"""

import asyncio
import os
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from e2b import AsyncTemplate, BuildInfo, LogEntry

import sandbox_scripts
from functions.bundle import build
from functions.settings import MissingSetting
from sandbox_scripts.template import CPUS, MEMORY_MB, NAME, REQUIREMENTS, template

# The endpoints' own, in functions/app.py: the runner carries bytecode, so another Python gives it another name.
PYTHON = (3, 11)


async def publish(name: str) -> BuildInfo:
    """The finished build. Raises what E2B's SDK raises, BuildException when a step failed; its log goes to stdout."""
    runner = build()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / runner.name).write_bytes(runner.content)
        (Path(folder) / REQUIREMENTS).write_bytes((files(sandbox_scripts) / REQUIREMENTS).read_bytes())
        steps = template(".".join(map(str, PYTHON)), folder, runner.name)
        return await AsyncTemplate.build(steps, name, cpu_count=CPUS, memory_mb=MEMORY_MB, on_build_logs=tell)


def tell(entry: LogEntry) -> None:
    """One line of the build's log."""
    sys.stdout.write(f"{entry}\n")


def main(arguments: list[str]) -> None:
    """Raises MissingSetting without a key, SystemExit for another Python than the endpoints'."""
    if not os.environ.get("E2B_API_KEY"):
        raise MissingSetting("setting E2B_API_KEY: Field required")
    if sys.version_info[:2] != PYTHON:
        raise SystemExit(f"build the template with Python {'.'.join(map(str, PYTHON))}, as the endpoints run it")
    published = asyncio.run(publish(arguments[0] if arguments else NAME))
    sys.stdout.write(f"E2B_TEMPLATE={published.name}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
