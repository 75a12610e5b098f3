"""What the template `sandstream` adds to a sandbox, read-only: the Agent SDK with its CLI, a parser, the runner.

The packages come from the environment that the server itself runs in. Only those distributions and what they require
are offered, file by file as their records list them, and no `.pth` file: whatever else is installed beside them stays
outside, and adds nothing to an interpreter's start.
"""

from __future__ import annotations

import compileall
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from functions.bundle import Bundle

BASE = "base"
SANDSTREAM = "sandstream"
DISTRIBUTION = "claude-agent-sdk"
# What research works with: the SDKs it asks models through, and what it reads commands with.
RESEARCH = ("anthropic", "openai", "tree-sitter", "tree-sitter-bash")
CLI = "claude_agent_sdk/_bundled/claude"
# Where a sandbox finds them: an environment in Python's own form, and the runner as E2B's template has it.
ENVIRONMENT = "/opt/claude"
BAKED = "/opt/sandstream"
VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
PACKAGES = f"lib/{VERSION}/site-packages"


class TemplateError(RuntimeError):
    """The environment lacks what the template offers."""


@dataclass(frozen=True)
class Template:
    """What is mounted read-only as (place outside, place inside), and what comes first on PATH, as seen inside."""

    mounts: tuple[tuple[Path, str], ...] = ()
    path: str = ""


def prepare(root: Path, runner: Bundle, interpreter: str) -> dict[str, Template]:
    """The templates by name, their files below `root`. `interpreter` is the prefix that sandboxes find Python at.

    Raises TemplateError and OSError.
    """
    environment, baked = root / "environment", root / "baked"
    cli = _environment(root, interpreter)
    baked.mkdir()
    (baked / runner.name).write_bytes(runner.content)
    # Only mounted: it is far too large to be copied, where it cannot be linked.
    (environment / PACKAGES / CLI).touch()
    mounts = ((environment, ENVIRONMENT), (cli, f"{ENVIRONMENT}/{PACKAGES}/{CLI}"), (baked, BAKED))
    return {SANDSTREAM: Template(mounts, f"{ENVIRONMENT}/bin")}


def prepare_unisolated(root: Path) -> dict[str, Template]:
    """The same for sandboxes that are only directories: nothing can be mounted, and the runner has no place to be.

    Raises TemplateError and OSError.
    """
    cli = _environment(root, sys.base_prefix)
    (root / "environment" / PACKAGES / CLI).symlink_to(cli)
    return {SANDSTREAM: Template((), str(root / "environment" / "bin"))}


def required(name: str, extra: str = "", found: dict[str, Distribution] | None = None) -> dict[str, Distribution]:
    """The distribution and all that it requires here, by normalized name and extra. Raises TemplateError."""
    found = {} if found is None else found
    key = f"{re.sub(r'[-_.]+', '-', name).lower()}[{extra}]"
    if key in found:
        return found
    try:
        found[key] = distribution(name)
    except PackageNotFoundError as error:
        raise TemplateError(f"the template {SANDSTREAM} needs {name}, which is not installed") from error
    for line in found[key].requires or []:
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
            for one in ("", *wanted.extras):
                required(wanted.name, one, found)
    return found


def _environment(root: Path, interpreter: str) -> Path:
    """Makes `root` anew, and an environment in it which lacks but the CLI; answers where that lies."""
    shutil.rmtree(root, ignore_errors=True)
    place = root / "environment"
    packages = place / PACKAGES
    (place / "bin").mkdir(parents=True)
    (place / "pyvenv.cfg").write_text(f"home = {interpreter}/bin\ninclude-system-site-packages = false\n")
    for name in ("python3", "python", VERSION):
        (place / "bin" / name).symlink_to(f"{interpreter}/bin/python3")
    (place / "bin" / "claude").symlink_to(f"../{PACKAGES}/{CLI}")
    files = list(_files())
    for folder in {relative.parent for _, relative in files}:
        (packages / folder).mkdir(parents=True, exist_ok=True)
    for source, relative in files:
        _link(source, packages / relative)
    cli = Path(str(distribution(DISTRIBUTION).locate_file(CLI)))
    if not cli.is_file():
        raise TemplateError(
            f"the template {SANDSTREAM} needs {DISTRIBUTION} with the CLI in its wheel: {cli} is absent"
        )
    (packages / CLI).parent.mkdir(exist_ok=True)
    return cli


def _files() -> Iterator[tuple[Path, Path]]:
    """Every file of the distributions, and the bytecode of each module, as (where it is, its place below)."""
    found: dict[str, Distribution] = {}
    for name in (DISTRIBUTION, *RESEARCH):
        required(name, found=found)
    for one in {d.metadata["Name"]: d for d in found.values()}.values():
        for listed in one.files or []:
            relative, source = Path(str(listed)), Path(str(listed.locate()))
            if ".." in relative.parts or relative.suffix in (".pth", ".pyc") or str(listed) == CLI:
                continue
            yield source, relative
            if relative.suffix == ".py" and (compiled := _compiled(source)) is not None:
                yield compiled, relative.parent / "__pycache__" / compiled.name


def _compiled(source: Path) -> Path | None:
    """The module's bytecode, made now where it is missing: inside nothing can be written beside the source."""
    cached = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
    if not cached.is_file():
        compileall.compile_file(source, quiet=2)
    return cached if cached.is_file() else None


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or somebody else's file
        shutil.copy2(source, target)
