"""Settings are read once, by name, and `.env.example` lists them all."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from functions.settings import MissingSetting, Settings, netloc
from sandbox_scripts.template import CPUS, MEMORY_MB

ROOT = Path(__file__).parents[2]
NEEDED = {
    "SANDSTREAM_URL": "https://endpoints.test/",
    "SUPABASE_URL": "https://project.supabase.test",
    "SUPABASE_PUBLISHABLE_KEY": "sb_publishable_canary",
    "SUPABASE_SECRET_KEY": "sb_secret_canary",
    "RUN_TOKEN_KEY": "{}",
    "E2B_API_KEY": "e2b_canary",
}
# Read by their libraries or by the operating system, or between the stack and its own processes.
NOT_OURS = re.compile(r"LOCAL_\w+|PATH|HOME|LANG|LC_ALL|TMPDIR|VIRTUAL_ENV|PYTHONPATH|COVERAGE_PROCESS_START|COLUMNS")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_the_needed_settings_are_enough(environment: pytest.MonkeyPatch) -> None:
    """Everything else has a default."""
    assert Settings.read().sandstream_url == "https://endpoints.test"


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_setting_is_named(name: str, environment: pytest.MonkeyPatch) -> None:
    """The program stops with the name of what is missing, not with a trace."""
    environment.delenv(name)
    with pytest.raises(MissingSetting, match=name):
        Settings.read()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CREDENTIALS", "both"),
        ("MAX_SANDBOX_DURATION", "soon"),
        ("SANDBOX_MARGIN_SECONDS", "1"),
        ("LOG_LEVEL", "LOUD"),
        ("TURN_SECONDS", "0"),
        ("MAX_MONTHLY_COST_PER_USER", "-1"),
        ("MAX_MONTHLY_COST_PER_USER", "0.0000001"),
        ("MAX_MONTHLY_COST_PER_USER", "NaN"),
        ("TURN_ESTIMATE_USD", "a quarter"),
        ("DEFAULT_TIMEOUT_MS", "999"),
        ("SANDBOX_VCPUS", "0"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, environment: pytest.MonkeyPatch) -> None:
    """A value that makes no sense stops the program as well."""
    environment.setenv(name, value)
    with pytest.raises(MissingSetting, match=name):
        Settings.read()


def test_the_program_stops_with_the_name() -> None:
    """Seen from outside: one line, exit code 1, no trace."""
    code = "from functions.settings import Settings; Settings.read()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("setting SANDSTREAM_URL:")
    assert "Traceback" not in done.stderr


def test_secrets_do_not_print(environment: pytest.MonkeyPatch) -> None:
    """Settings may end up in a log; their secrets do not."""
    printed = repr(Settings.read())
    assert "sb_secret_canary" not in printed
    assert "e2b_canary" not in printed


@pytest.mark.parametrize("name", ["EGRESS_ALLOW", "PACKAGE_HOSTS"])
def test_hosts_are_split(name: str, environment: pytest.MonkeyPatch) -> None:
    """A comma-separated list; spaces and empty entries do not count."""
    environment.setenv(name, "one.test, two.test:8443,,")
    assert getattr(Settings.read(), name.lower()) == ("one.test", "two.test:8443")


def test_a_run_never_outlives_the_plan(environment: pytest.MonkeyPatch) -> None:
    """A run's longest limit and the margin together are what the E2B plan allows."""
    environment.setenv("MAX_SANDBOX_DURATION", "86400000")
    settings = Settings.read()
    assert settings.max_limit_seconds + settings.sandbox_margin_seconds == 86_400


def test_a_turn_has_time_for_its_questions_within_the_plan(environment: pytest.MonkeyPatch) -> None:
    """Its own limit and the longest wait for an answer; never more than a sandbox lives."""
    environment.setenv("MAX_SANDBOX_DURATION", "86400000")
    assert Settings.read().conversation_limit_seconds == 1800 + 3600
    environment.setenv("MAX_SANDBOX_DURATION", "3600000")
    settings = Settings.read()
    assert settings.conversation_limit_seconds == settings.max_limit_seconds == 3540


@pytest.mark.parametrize(
    ("dollars", "millionths"), [("25", 25_000_000), ("12.50", 12_500_000), ("0.000001", 1), ("0", 0), ("", None)]
)
def test_a_months_limit_is_exact(dollars: str, millionths: int | None, environment: pytest.MonkeyPatch) -> None:
    """Dollars in decimal, never through a float; nothing said is no limit, and 0 is nothing to spend."""
    environment.setenv("MAX_MONTHLY_COST_PER_USER", dollars)
    assert Settings.read().max_month_microusd == millionths


def test_a_turn_reserves_a_quarter_unless_told_otherwise(environment: pytest.MonkeyPatch) -> None:
    """What is promised to a turn before its cost is known."""
    assert Settings.read().turn_estimate_microusd == 250_000
    environment.setenv("TURN_ESTIMATE_USD", "1.1")
    assert Settings.read().turn_estimate_microusd == 1_100_000


def test_sandboxes_are_charged_at_the_size_of_our_template(environment: pytest.MonkeyPatch) -> None:
    """What is built here is what is charged, until somebody names another size."""
    settings = Settings.read()
    assert (settings.sandbox_vcpus, settings.sandbox_memory_mib) == (CPUS, MEMORY_MB)


@pytest.mark.parametrize(("milliseconds", "seconds"), [("", 3540), ("600000", 600), ("1999", 1), ("7200000", 3540)])
def test_a_run_that_names_no_length_has_one(milliseconds: str, seconds: int, environment: pytest.MonkeyPatch) -> None:
    """The default, and never more than a run may last; without one, that."""
    environment.setenv("DEFAULT_TIMEOUT_MS", milliseconds)
    assert Settings.read().default_limit_seconds == seconds


def test_there_may_be_no_model_key(environment: pytest.MonkeyPatch) -> None:
    """An empty one is none; a set one does not print."""
    environment.setenv("ANTHROPIC_API_KEY", "")
    assert Settings.read().anthropic_api_key is None
    environment.setenv("ANTHROPIC_API_KEY", "sk-ant-canary")
    assert "sk-ant-canary" not in repr(Settings.read())


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        ("https://xyz.supabase.co", "xyz.supabase.co"),
        ("https://xyz.supabase.co:443/rest", "xyz.supabase.co"),
        ("http://127.0.0.1:54321", "127.0.0.1:54321"),
        ("http://plain.test", "plain.test"),
        ("https://odd.test:80", "odd.test:80"),
    ],
)
def test_a_url_becomes_an_egress_entry(url: str, entry: str) -> None:
    """The port is named only where it is not the scheme's own."""
    assert netloc(url) == entry


def test_the_example_lists_what_is_read() -> None:
    """Every setting in `.env.example` is read somewhere, and every setting that is read stands there."""
    listed = set(re.findall(r"^([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert listed == {name.upper() for name in Settings.model_fields} | read_elsewhere()


def test_the_example_explains_each_key() -> None:
    """Each key has a line of meaning above it, its own or its group's."""
    previous = ""
    for line in (ROOT / ".env.example").read_text().splitlines():
        if re.match(r"^[A-Z]", line):
            assert previous.startswith("#") or re.match(r"^[A-Z]", previous), line
        previous = line


def read_elsewhere() -> set[str]:
    """Names that code outside functions/settings.py takes from the environment."""
    reads = r"(?:environ(?:ment)?(?:[.]get|[.]pop)?[\[(]|getenv[(]|envvar=)"
    pattern = re.compile(reads + r"""\s*["']([A-Z][A-Z0-9_]+)["']""")
    found: set[str] = set()
    for package in ("functions", "local", "sandstream"):
        for path in (ROOT / package).rglob("*.py"):
            found |= set(pattern.findall(path.read_text()))
    return {name for name in found if not NOT_OURS.fullmatch(name)}
