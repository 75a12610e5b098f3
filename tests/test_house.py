"""The rules of the house, where a program can hold them."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOUSES = ("functions", "sandbox_scripts", "local", "sandstream")
# Who may import whom; nobody imports tests, and nothing imports what is not listed.
MAY_IMPORT = {
    "functions": {"functions", "sandbox_scripts", "sandstream"},
    "sandbox_scripts": {"sandbox_scripts"},
    "local": {"local", "functions"},
    "sandstream": {"sandstream"},
}
# Within functions, from the door to the nouns: a file may import what stands below it.
FLOORS = (
    {"app"},
    {"api"},
    {"routes"},
    {"sweep"},
    {"wiring", "template", "doctor"},
    {"turns", "research"},
    {"recovery"},
    {"launch", "streams", "run_checks", "research_checks"},
    {"sandboxes", "snapshots", "supabase_checks"},
    {
        "agents",
        "agreement",
        "bundle",
        "cache",
        "case",
        "conversations",
        "drafts",
        "egress",
        "embeddings",
        "environments",
        "events",
        "freshness",
        "hooks",
        "hosts",
        "identity",
        "job",
        "keys",
        "limits",
        "logs",
        "models",
        "order",
        "pages",
        "planners",
        "prices",
        "quantities",
        "reading",
        "repositories",
        "requests",
        "rest",
        "store",
        "syntax",
        "timing",
        "tokens",
        "tools",
        "usage",
        "vocabulary",
        "watch_tokens",
    },
    {"settings"},
    {"errors"},
)


def tracked(*patterns: str) -> list[Path]:
    """Files that git knows or would add."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", *patterns],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def imported(path: Path) -> set[str]:
    """The absolute modules that a file imports, wherever it does so."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("house", HOUSES)
def test_houses_import_in_one_direction(house: str) -> None:
    """The endpoints do not know the local stack, the runner knows nobody, nobody knows the tests."""
    ours = {*HOUSES, "tests", "bench"}
    for path in (ROOT / house).rglob("*.py"):
        known = {module.split(".")[0] for module in imported(path)} & ours
        assert known <= MAY_IMPORT[house], path


def test_functions_import_downwards() -> None:
    """The app wires, the routes translate, the nouns decide: nothing looks up."""
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    for path in (ROOT / "functions").rglob("*.py"):
        own = "routes" if path.parent.name == "routes" else path.stem
        if own == "__init__":
            continue
        for module in imported(path):
            parts = module.split(".")
            if parts[0] == "functions" and len(parts) > 1 and parts[1] != own:
                assert floor[parts[1]] >= floor[own], f"{path} imports {module}"


def test_only_the_app_imports_modal() -> None:
    """One file knows where the endpoints are deployed; importing it needs no token."""
    users = {path.relative_to(ROOT).as_posix() for path in tracked("*.py") if "modal" in imported(path)}
    assert users == {"functions/app.py"}


def test_every_test_says_what_is_promised() -> None:
    """A test's docstring is its sentence."""
    silent = []
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            is_test = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
            if is_test and not ast.get_docstring(node):  # type: ignore[arg-type]
                silent.append(f"{path.name}:{node.lineno}")  # type: ignore[attr-defined]
    assert silent == []


def test_the_diagram_is_the_table() -> None:
    """docs/lifecycle.md draws the moves that SQL allows, and who makes them; no more and no fewer."""
    migrations = sorted((ROOT / "supabase/migrations").glob("*.sql"))
    sql = "\n".join(path.read_text() for path in migrations)
    rows = re.findall(r"^  \('(\w+)', '(\w+)', array\[([^\]]+)\]\)", sql, re.MULTILINE)
    # A later migration changes what an earlier one wrote.
    latest = {(start, end): makers.replace("'", "") for start, end, makers in rows}
    allowed = {(*move, makers) for move, makers in latest.items()}
    diagram = (ROOT / "docs/lifecycle.md").read_text()
    assert len(allowed) > 5
    drawn = set(re.findall(r"^\s+(\w+) --> (\w+): ([\w, ]+)$", diagram, re.MULTILINE))
    assert drawn == allowed


def test_the_readmes_commands_exist() -> None:
    """Each `make` target and each `sandstream` command that the README and the docs name is there."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    text = "\n".join(path.read_text() for path in tracked("*.md"))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)) <= targets
    cli = (ROOT / "sandstream/cli.py").read_text()
    commands = set(re.findall(r"@app\.command\(\)\ndef (\w+)", cli)) | set(
        re.findall(r'(?:command|add_typer)\([^)]*name="(\w+)"\)', cli)
    )
    named = set(re.findall(r"(?:bin/|`)sandstream ([a-z]+)", text))
    assert named
    assert named <= commands


def test_every_link_leads_somewhere() -> None:
    """Relative links in the documents point to files that exist."""
    for path in tracked("*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_no_file_names_a_registry() -> None:
    """Where packages come from is each machine's own business; no lock file that records it is kept."""
    hosts = re.compile(
        r"(?:files\.)?python" + r"hosted\.org|py" + r"pi\.org|registry\." + r"npmjs|registry\." + r"yarnpkg"
    )
    for path in tracked():
        assert path.name != "uv.lock"
        if path.suffix not in {".png", ".pyz"}:
            assert not hosts.search(path.read_text(errors="replace")), path


def test_the_pins_have_hashes() -> None:
    """Every requirement is one exact version with its hashes."""
    for path in [ROOT / folder / "requirements.txt" for folder in (".", "functions", "sandbox_scripts")]:
        entries = re.split(r"\n(?=\S)", path.read_text().strip())
        pins = [entry for entry in entries if not entry.startswith("#")]
        assert len(pins) > 20
        for pin in pins:
            assert re.match(r"[\w.-]+(\[[\w,-]+\])?==", pin), pin
            assert "--hash=sha256:" in pin, pin


def test_modal_gets_the_settings_that_have_no_default() -> None:
    """The secret's required keys are the settings that stop the program when missing."""
    from functions.app import REQUIRED_KEYS
    from functions.settings import Settings

    needed = {name.upper() for name, field in Settings.model_fields.items() if field.is_required()}
    assert set(REQUIRED_KEYS) == needed | {"RUN_TOKEN_KEY"}


def test_deployed_packages_are_pinned_like_the_others() -> None:
    """What Modal installs is a part of what was tested, version for version."""
    pin = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;]+)", re.MULTILINE)
    tested = dict(pin.findall((ROOT / "requirements.txt").read_text()))
    deployed = dict(pin.findall((ROOT / "functions/requirements.txt").read_text()))
    assert deployed.items() <= tested.items()
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[\[=><]", name)[0] for name in declared} <= deployed.keys()
