"""The Agent SDK without what it does not need: it works, nothing else notices, and another SDK still loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.runner.conftest import ROOT

LOAD = "from sandbox_scripts.drivers.claude import sdk; sdk.load(); "
# What a later version might do while it is imported.
DEMANDING = "import mcp.types\nassert mcp.types.LATEST_PROTOCOL_VERSION > '2024'\nclass ClaudeSDKClient: pass\n"


def python(code: str, path: Path = ROOT) -> str:
    """What a fresh interpreter prints."""
    environment = {"PYTHONPATH": f"{path}:{ROOT}"}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_the_sdk_is_there_and_its_heavy_parts_are_not() -> None:
    """All that the driver names can be had, and neither package was imported for it."""
    names = "from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, PermissionResultAllow; "
    known = "import sys; print(ClaudeSDKClient.__module__, {'mcp', 'jsonschema'} & sys.modules.keys())"
    assert python(LOAD + names + known).endswith("set()")


def test_the_real_package_can_still_be_had() -> None:
    """Nothing hollow is left behind for whoever imports it later."""
    assert python(LOAD + "import mcp.types; print(mcp.types.Tool.__mro__[-2].__name__)") == "BaseModel"
    assert python(LOAD + "import jsonschema; jsonschema.validate(1, {'type': 'integer'}); print('valid')") == "valid"


def test_what_is_there_already_is_kept() -> None:
    """A process that has `mcp` keeps the one it has."""
    code = "import sys, mcp; " + LOAD + "from claude_agent_sdk import Transport; print(sys.modules['mcp'] is mcp)"
    assert python(code) == "True"


def test_it_is_found_without_site_packages() -> None:
    """The runner starts without them, for its first event's sake; they are added once, when the SDK is looked for."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = sys.path[:]; "
    code += "from sandbox_scripts.drivers.claude import sdk; found = [sdk.find().name, sdk.find().name]; "
    code += "added = [path for path in sys.path if path not in before]; print(*found, len(added) == len({*added}) > 0)"
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "claude_agent_sdk claude_agent_sdk True\n"


def test_an_sdk_that_needs_it_gets_it(tmp_path: Path) -> None:
    """One that does more with it while it is imported is imported in full, once more from its start."""
    package = tmp_path / "claude_agent_sdk"
    package.mkdir()
    (package / "__init__.py").write_text(DEMANDING)
    code = LOAD + "import sys, claude_agent_sdk; print(claude_agent_sdk.__file__, 'mcp.types' in sys.modules)"
    assert python(code, tmp_path) == f"{package}/__init__.py True"


def test_without_the_sdk_it_says_so(tmp_path: Path) -> None:
    """As any import does."""
    broken = tmp_path / "claude_agent_sdk"
    broken.mkdir()
    (broken / "__init__.py").write_text("import not_there_at_all")
    code = "from sandbox_scripts.drivers.claude import sdk\ntry: sdk.load()\nexcept ImportError as e: print(e.name)"
    assert python(code, tmp_path) == "not_there_at_all"
