"""The first process of a sandbox: bubblewrap with envd in it, or, without isolation, envd alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from local.bubblewrap import bwrap_path
from local.e2b import jail

# Takes a process into the sandbox's limits; there may be none.
Attach = Callable[[int], None] | None


class StartError(Exception):
    """The sandbox did not come up; the message says what bubblewrap or envd printed."""


def isolated(
    arguments: Callable[[jail.Descriptors], list[str]], listener: int, output: int, attach: Attach
) -> tuple[subprocess.Popen[bytes], int]:
    """bubblewrap, and a descriptor of the namespace's first process. Raises StartError and OSError."""
    information, tell = os.pipe()
    closed, opened = os.pipe()
    options = jail.sealed(arguments(jail.Descriptors(listener, tell, closed)))
    try:
        process = subprocess.Popen(  # noqa: S603 our own binary, our own arguments
            [str(bwrap_path()), "--args", str(options), "--", *jail.boot(listener)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={},
            pass_fds=(listener, tell, closed, options),
            start_new_session=True,
        )
        for fd in (tell, closed, options):
            os.close(fd)
        first = _enter(information, attach)
        os.write(opened, b"1")
        return process, first
    finally:
        os.close(information)
        os.close(opened)


def unisolated(directory: Path, library: Path, listener: int, output: int, attach: Attach) -> subprocess.Popen[bytes]:
    """envd in that directory, with nothing around it. Raises OSError."""
    process = subprocess.Popen(  # noqa: S603 our own program
        [sys.executable, "-I", "-S", "-c", jail.BOOT.format(lib=str(library)), str(listener), "-1"],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={},
        cwd=directory,
        pass_fds=(listener,),
        start_new_session=True,
    )
    if attach is not None:
        attach(process.pid)
    return process


def _enter(information: int, attach: Attach) -> int:
    """Take the namespace's first process into the limits while bubblewrap still holds it back."""
    told = b""
    while chunk := os.read(information, 4096):
        told += chunk
    if not told:
        raise StartError("bubblewrap did not start")
    pid = int(json.loads(told)["child-pid"])
    first = os.pidfd_open(pid)
    if attach is not None:
        attach(pid)
    return first
