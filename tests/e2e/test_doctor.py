"""The doctor: a deployment that is well, and each thing that can be wrong with it, one at a time."""

import json
import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from functions import supabase_checks
from functions.doctor import CHECKS
from local.stack import Stack, free_port
from local.supabase.keys import new_signing_key
from tests.conftest import Person
from tests.e2e.acting import acting
from tests.e2e.examining import examined, users, wrong
from tests.e2e.faults import Fault, fault_proxy
from tests.e2e.sandboxes import living

ROOT = Path(__file__).parents[2]
SUPABASE = supabase_checks.CHECKS


@contextmanager
def changed(stack: Stack, change: str, back: str) -> Iterator[None]:
    """The database with something done to it that is undone afterwards."""
    with psycopg.connect(stack.postgres.dsn(), autocommit=True) as connection:
        connection.execute(change)
        connection.execute("notify pgrst, 'reload schema'")
        try:
            yield
        finally:
            connection.execute(back)
            connection.execute("notify pgrst, 'reload schema'")


async def started(environment: dict[str, str], folder: Path, *arguments: str) -> Process:
    """The command, under way."""
    return await create_subprocess_exec(
        str(Path(sys.executable).with_name("sandstream")), "doctor", *arguments,
        cwd=folder, env={**environment, "PYTHONPATH": str(ROOT)}, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip


async def command(stack: Stack, folder: Path, *arguments: str, **changes: str) -> tuple[int, list[str], str]:
    """`sandstream doctor`, as an operator runs it: exit code, lines, and what it said on stderr."""
    environment = stack.api_environment() | changes
    process = await started(environment, folder, *arguments)
    out, err = await process.communicate()
    return process.returncode or 0, out.decode().splitlines(), err.decode()


async def test_all_is_well(stack: Stack, service: httpx.AsyncClient, tmp_path: Path) -> None:
    """Exit code 0, one line a check, a run that succeeded; no sandbox and no user is left of it."""
    before = set(await living(stack))
    code, lines, err = await command(stack, tmp_path)
    assert (code, err, lines[-1]) == (0, "", "all is well"), lines
    named = ["settings", *(check.name for check in CHECKS), "tidying up"]
    assert [line[10:].split("  ")[0] for line in lines[:-1]] == named
    assert {line[:8].strip() for line in lines[:-1]} == {"ok"}
    assert "run.succeeded" in lines[-3]
    assert set(await living(stack)) <= before
    assert await users(service) == []


async def test_it_says_no_secret(stack: Stack, tmp_path: Path) -> None:
    """Also where keys are wrong and services quote what they were sent, no line holds one."""
    wrong_keys = {"E2B_API_KEY": "e2b_" + "1" * 40, "ANTHROPIC_API_KEY": "sk-ant-" + "2" * 40}
    code, lines, _ = await command(stack, tmp_path, **wrong_keys)
    secrets = [value for name, value in stack.api_environment().items() if name.endswith(("_KEY", "_SECRET"))]
    public = stack.keys.publishable_key
    assert code == 1
    assert [line for line in lines for secret in [*secrets, *wrong_keys.values()] if secret in line != public] == []


async def test_it_reads_the_file_that_is_stored_at_modal(stack: Stack, tmp_path: Path) -> None:
    """A `.env` is read as `modal secret create --from-dotenv` reads it, and stands over the environment."""
    lines = [f"{name}={value}" for name, value in stack.api_environment().items() if name.isupper()]
    (tmp_path / ".env").write_text("\n".join([*lines, f"SUPABASE_URL=http://127.0.0.1:{free_port()}"]))
    code, said, _ = await command(stack, tmp_path, ".env")
    assert code == 1
    assert [line for line in said if line.startswith("WRONG     supabase ")]


async def test_interrupted_it_leaves_nothing(stack: Stack, tmp_path: Path) -> None:
    """Ctrl-C while it waits for an answer: the sandbox that it had made is gone, and there is no trace of Python's."""
    before = set(await living(stack))
    async with fault_proxy(stack.api.url, Fault("GET", "/v1/config", None)) as silent:
        doctor = await started({**stack.api_environment(), "SANDSTREAM_URL": silent.url}, tmp_path)
        assert doctor.stdout is not None
        while not (await doctor.stdout.readline()).startswith(b"ok        injection"):
            assert doctor.returncode is None
        assert len(set(await living(stack)) - before) == 1
        doctor.send_signal(signal.SIGINT)
        out, err = await doctor.communicate()
    assert (doctor.returncode, err) == (130, b"")
    assert out.decode().splitlines() == ["ok        tidying up       nothing is left"]
    assert set(await living(stack)) <= before


async def test_a_file_that_is_not_there_is_named(stack: Stack, tmp_path: Path) -> None:
    """A misspelt name does not examine something else."""
    code, lines, err = await command(stack, tmp_path, ".evn")
    assert (code, lines, err.strip()) == (1, [], "there is no file .evn")


async def test_a_missing_setting_is_named(stack: Stack, tmp_path: Path) -> None:
    """Without settings there is nothing to examine: one line, with the setting's name."""
    code, lines, _ = await command(stack, tmp_path, E2B_API_KEY="")
    assert code == 1
    assert lines == ["WRONG     settings         setting E2B_API_KEY: Field required"]


async def test_nothing_at_the_address(stack: Stack) -> None:
    """What needs Supabase is skipped and says so; one thing is wrong."""
    found = await examined(stack, SUPABASE, supabase_url=f"http://127.0.0.1:{free_port()}")
    assert wrong(found).keys() == {"supabase"}
    assert "no answer" in found["supabase"].words
    assert (found["secret key"].verdict, found["secret key"].words) == ("skipped", "needs: supabase")
    assert {each.verdict for each in found.values()} == {"ok", "WRONG", "skipped"}


async def test_something_else_at_the_address(stack: Stack) -> None:
    """Another service's address is not a Supabase project."""
    found = await examined(stack, SUPABASE, supabase_url=stack.e2b.url)
    assert wrong(found).keys() == {"supabase"}
    assert "not a Supabase project" in found["supabase"].words


@pytest.mark.parametrize(
    ("setting", "check"),
    [("supabase_publishable_key", "publishable key"), ("supabase_secret_key", "secret key")],
)
async def test_a_key_that_nobody_issued(stack: Stack, setting: str, check: str) -> None:
    """Each of Supabase's keys is named when it is the one that is refused."""
    found = await examined(stack, SUPABASE, **{setting: "sb_wrong_key"})
    assert wrong(found).keys() == {check}
    assert setting.upper() in found[check].words


async def test_keys_in_each_others_place(stack: Stack) -> None:
    """A secret key that is set as the publishable one would be given to everyone: it is found before that."""
    keys = {"supabase_publishable_key": stack.keys.secret_key, "supabase_secret_key": stack.keys.publishable_key}
    found = await examined(stack, SUPABASE, **keys)
    assert wrong(found).keys() == {"publishable key", "secret key"}
    assert "is a secret key" in found["publishable key"].words


PUBLIC = {name: value for name, value in new_signing_key().items() if name != "d"}


@pytest.mark.parametrize("key", ["not json", "{}", json.dumps(PUBLIC)])
async def test_a_run_token_key_that_cannot_sign(stack: Stack, key: str) -> None:
    """Text, an empty object and a public key are no private JWK; nothing is signed with them."""
    found = await examined(stack, SUPABASE, run_token_key=key)
    assert wrong(found).keys() == {"run token key"}
    assert "RUN_TOKEN_KEY is not a private ES256 JWK" in found["run token key"].words
    assert found["run token"].verdict == "skipped"


async def test_a_run_token_key_that_the_project_does_not_know(stack: Stack) -> None:
    """A key that was made and never imported."""
    found = await examined(stack, SUPABASE, run_token_key=json.dumps(new_signing_key()))
    assert wrong(found).keys() == {"signing keys"}
    assert "import it" in found["signing keys"].words


async def test_a_run_token_key_by_another_name(stack: Stack) -> None:
    """The right key with a `kid` that the project does not know: PostgREST would not find it."""
    renamed = json.dumps(json.loads(stack.keys.signing_key) | {"kid": "another"})
    found = await examined(stack, SUPABASE, run_token_key=renamed)
    assert wrong(found).keys() == {"signing keys"}
    assert "`kid`" in found["signing keys"].words


async def test_the_legacy_secret_serves(stack: Stack) -> None:
    """A project without signing keys of ours: run tokens are HS256, and are accepted."""
    found = await examined(stack, SUPABASE, run_token_key=None, supabase_jwt_secret=stack.keys.jwt_secret)
    assert wrong(found) == {}
    assert "legacy secret" in found["signing keys"].words


async def test_a_wrong_legacy_secret(stack: Stack) -> None:
    """Nothing tells whether it is right but a run token that Supabase refuses."""
    found = await examined(stack, SUPABASE, run_token_key=None, supabase_jwt_secret="x" * 40)
    assert wrong(found).keys() == {"run token"}


RENAMED = "alter function public.{0}{2} rename to {1}"
OF_TABLE = "alter table public.agent_events {0} row level security"
PUBLISHED = "alter publication supabase_realtime {0} table public.agent_runs"
OF_RUNNER = "{0} execute on function public.heartbeat_v1 {1} runner"
BREAKS = {
    "no migration": (
        RENAMED.format("deployment_facts_v1", "gone_v1", "()"),
        RENAMED.format("gone_v1", "deployment_facts_v1", "()"),
        "migrations",
        "supabase db push",
    ),
    "an older state": (
        RENAMED.format("preview_v1", "gone_v1", "(jsonb)"),
        RENAMED.format("gone_v1", "preview_v1", "(jsonb)"),
        "migrations",
        "preview_v1",
    ),
    "row security off": (OF_TABLE.format("disable"), OF_TABLE.format("enable"), "row security", "agent_events"),
    "row security not forced": (OF_TABLE.format("no force"), OF_TABLE.format("force"), "row security", "agent_events"),
    "a table out of the publication": (
        PUBLISHED.format("drop"),
        PUBLISHED.format("add"),
        "publication",
        "agent_runs",
    ),
    "the runner's role without its grant": (
        OF_RUNNER.format("revoke", "from"),
        OF_RUNNER.format("grant", "to"),
        "run token",
        "permission denied",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
async def test_a_database_that_is_not_as_the_migrations_leave_it(stack: Stack, name: str) -> None:
    """One thing that is undone in the database is one line that is wrong, and says which."""
    change, back, check, words = BREAKS[name]
    with changed(stack, change, back):
        found = await examined(stack, SUPABASE)
    assert wrong(found).keys() == {check}
    assert words in found[check].words
    assert wrong(await examined(stack, SUPABASE)) == {}


async def test_a_log_that_anyone_can_read(stack: Stack, owner: Person) -> None:
    """Row security that is on and lets everybody through is seen by reading as nobody."""
    change = (
        "grant select on public.agent_events to anon; "
        "create policy everyone on public.agent_events for select to anon using (true)"
    )
    back = "drop policy everyone on public.agent_events; revoke select on public.agent_events from anon"
    async with acting(stack, owner, "hello"):
        with changed(stack, change, back):
            found = await examined(stack, SUPABASE)
    assert wrong(found).keys() == {"row security"}
    assert "without signing in" in found["row security"].words


def test_a_check_comes_after_what_it_needs() -> None:
    """Needs are names of checks that stand earlier in the table."""
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    assert all(names.index(need) < names.index(check.name) for check in CHECKS for need in check.needs)
