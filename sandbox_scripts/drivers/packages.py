"""Installed packages, for the drivers that use them. The runner is started without, for its first event's sake."""

from __future__ import annotations

import functools
import site
import sys


@functools.cache  # each time would run the .pth files again
def add_site_packages() -> None:
    """Let what is installed be imported."""
    if sys.flags.no_site:
        site.main()
