"""The Agent SDK, imported without the packages `mcp` and `jsonschema`.

The SDK needs them for tool servers inside its own process, which we do not use (custom.py speaks the protocol itself),
and imports them in any case. They are most of the import: 1.0 and 0.1 of 1.3 seconds of processor with versions
0.2.187, 2.3.0 and 4.26.0, in a sandbox where the CLI is starting at the same time.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types

from ..packages import add_site_packages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

SDK, HEAVY = "claude_agent_sdk", ("mcp", "jsonschema")


def find() -> importlib.machinery.ModuleSpec | None:
    """Where the SDK is; None when it is not installed. Adds site-packages, which the runner is started without."""
    add_site_packages()
    return importlib.util.find_spec(SDK)


def load() -> None:
    """Make the next import of the SDK a cheap one. Raise ImportError when it is not there."""
    if SDK in sys.modules or sys.modules.keys() & set(HEAVY):
        return  # it was paid for
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module(SDK)
    except (TypeError, AttributeError, ImportError):
        _forget(SDK)  # another version, which does more with it at once
    finally:
        sys.meta_path.remove(finder)
        for package in HEAVY:
            _forget(package)
    importlib.import_module(SDK)


class _Hollow(types.ModuleType):
    """A module that has every name, each a class that does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Anything,), {})


class _Anything:
    def __init_subclass__(cls, **_: Any) -> None:
        """Models take options where they are defined."""


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds nothing but the hollow packages."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.split(".", 1)[0] not in HEAVY:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Hollow(spec.name)

    def exec_module(self, _module: types.ModuleType) -> None:
        """There is nothing in it."""


def _forget(package: str) -> None:
    for name in [name for name in sys.modules if name == package or name.startswith(package + ".")]:
        del sys.modules[name]
