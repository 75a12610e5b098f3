"""Agents and environments: made, changed, archived by their owner; the ready-made ones are everyone's to read."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.sql.conftest import Connect
from tests.sql.people import ANON, Connection, Person, acting, column, refused, scalar, sign_up
from tests.sql.runs import HASH, OTHER_HASH, Json
from tests.sql.turns import at_once, behind

FIRST: Json = {"name": "First", "model": {"id": "claude-sonnet-5"}, "metadata": {"team": "a"}}
SECOND: Json = {**FIRST, "name": "Second"}


class Noun(NamedTuple):
    """What agents and environments have in common: a table and functions named alike."""

    name: str
    table: str

    def call(self, rest: Connection, owner: Person, verb: str, **arguments: object) -> Json:
        """The answer of <verb>_<noun>_v1."""
        return dict(owner.call(rest, f"{verb}_{self.name}_v1", **{"request_hash": HASH, **arguments}))

    def create(self, rest: Connection, owner: Person, **arguments: object) -> Json:
        """A new one with the first configuration."""
        return self.call(rest, owner, "create", **{"config": FIRST, **arguments})

    def on(self, rest: Connection, owner: Person, verb: str, id: str, **arguments: object) -> Json:
        """The answer of a function about the one with this id."""
        return self.call(rest, owner, verb, **{f"{self.name}_id": id, **arguments})


AGENT = Noun("agent", "agents")
ENVIRONMENT = Noun("environment", "environments")
NOUNS = [AGENT, ENVIRONMENT]
every_noun = pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.name)


def versions(rest: Connection, person: Person, agent_id: str) -> list[tuple[int, str]]:
    """(version, name) of the agent's versions that the person may read."""
    query = "select version, config ->> 'name' from public.agent_versions where agent_id = %s order by version"
    with acting(rest, person):
        return rest.execute(query, (agent_id,)).fetchall()


def ids(rest: Connection, person: Person, noun: Noun) -> list[str]:
    """The ids that the person may read."""
    with acting(rest, person):
        return column(rest, f"select id from public.{noun.table}")


def count(admin: Connection, noun: Noun, owner: Person) -> int:
    """How many the owner has."""
    return int(scalar(admin, f"select count(*) from public.{noun.table} where owner = %s", (owner.id,)))


def by_stranger(act: Callable[[], object], word: str) -> None:
    """What is done is refused as if there were nothing."""
    with refused("PT404", word):
        act()


@every_noun
def test_the_ready_made_one_is_everyones(rest: Connection, admin: Connection, noun: Noun) -> None:
    """`default` is read by everyone signed in, anonymous users included, and by nobody who is not."""
    for person in (sign_up(admin), sign_up(admin, anonymous=True)):
        assert ids(rest, person, noun) == ["default"]
    with refused("42501"):
        ids(rest, ANON, noun)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("update_agent_v1", {"agent_id": "default", "config": SECOND, "request_hash": HASH}),
        ("archive_agent_v1", {"agent_id": "default", "request_hash": HASH}),
        ("update_environment_v1", {"environment_id": "default", "config": SECOND, "request_hash": HASH}),
        ("archive_environment_v1", {"environment_id": "default", "request_hash": HASH}),
        ("delete_environment_v1", {"environment_id": "default"}),
    ],
)
def test_the_ready_made_ones_are_never_changed(
    rest: Connection, admin: Connection, owner: Person, function: str, arguments: Json
) -> None:
    """PT403 ready_made, whoever asks for whatever; the rows stay as they were."""
    query = "select to_jsonb(a), to_jsonb(e) from public.agents a, public.environments e where a.id = e.id"
    before = admin.execute(query).fetchall()
    with refused("PT403", "ready_made"):
        owner.call(rest, function, **arguments)
    assert admin.execute(query).fetchall() == before


def test_the_ready_made_agent_allows_every_tool(admin: Connection) -> None:
    """It has the whole toolset, asks before none, and stands among the versions under its number."""
    config = scalar(admin, "select config from public.agent_versions where agent_id = 'default' and version = 1")
    (toolset,) = config["tools"]
    assert (toolset["type"], toolset["configs"]) == ("agent_toolset_20260401", [])
    assert toolset["default_config"] == {"enabled": True, "permission_policy": {"type": "always_allow"}}
    assert (config["model"]["id"], config["system"]) == ("claude-sonnet-5", None)


def test_the_ready_made_environment_is_closed(admin: Connection) -> None:
    """It names no host and opens no registries; the MCP servers of its agent are that agent's owner's choice."""
    config = scalar(admin, "select config -> 'config' from public.environments where id = 'default'")
    assert config["networking"] == {
        "type": "limited", "allowed_hosts": [], "allow_mcp_servers": True, "allow_package_managers": False,
    }  # fmt: skip
    packages = dict(config["packages"])
    assert packages.pop("type") == "packages"
    assert set(map(tuple, packages.values())) == {()}


@every_noun
def test_a_new_one_is_its_owners(rest: Connection, admin: Connection, owner: Person, noun: Noun) -> None:
    """The answer has id, configuration and times, no owner; its owner reads it beside the ready-made one."""
    made = noun.create(rest, owner)
    assert made["config"] == FIRST
    assert made["archived_at"] is None
    assert "owner" not in made
    assert made["id"].startswith({"agent": "agent_", "environment": "env_"}[noun.name])
    assert set(ids(rest, owner, noun)) == {"default", made["id"]}
    assert ids(rest, sign_up(admin, "stranger"), noun) == ["default"]


@every_noun
def test_nobody_without_a_user_makes_one(rest: Connection, admin: Connection, noun: Noun) -> None:
    """A token whose user is gone is nobody's: PT401."""
    gone = sign_up(admin)
    admin.execute("delete from auth.users where id = %s", (gone.id,))
    with refused("PT401", "not_signed_in"):
        noun.create(rest, gone)


@every_noun
@pytest.mark.parametrize("verb", ["update", "archive"])
def test_strangers_find_nothing(rest: Connection, admin: Connection, owner: Person, noun: Noun, verb: str) -> None:
    """To another user an id that exists and one that never did are the same PT404."""
    made = noun.create(rest, owner)
    arguments: Json = {"config": SECOND} if verb == "update" else {}
    stranger = sign_up(admin, "stranger")
    word = f"{noun.name}_not_found"
    by_stranger(lambda: noun.on(rest, stranger, verb, made["id"], **arguments), word)
    by_stranger(lambda: noun.on(rest, owner, verb, "nothing", **arguments), word)
    row = scalar(admin, f"select to_jsonb(t) from public.{noun.table} t where id = %s", (made["id"],))
    assert (row["config"], row["archived_at"]) == (FIRST, None)


def test_a_change_is_a_new_version(rest: Connection, owner: Person) -> None:
    """The agent shows the latest; every version stays as it was written."""
    made = AGENT.create(rest, owner)
    changed = AGENT.on(rest, owner, "update", made["id"], config=SECOND, expected_version=1)
    assert (made["version"], changed["version"], changed["config"]) == (1, 2, SECOND)
    assert versions(rest, owner, made["id"]) == [(1, "First"), (2, "Second")]


def test_the_same_configuration_is_no_new_version(rest: Connection, owner: Person) -> None:
    """An update that changes nothing answers with the agent as it is."""
    made = AGENT.create(rest, owner)
    assert AGENT.on(rest, owner, "update", made["id"], config=FIRST, expected_version=1) == made
    assert versions(rest, owner, made["id"]) == [(1, "First")]


@pytest.mark.parametrize("expected", [0, 1, 3])
def test_another_version_than_expected_is_a_conflict(rest: Connection, owner: Person, expected: int) -> None:
    """PT409 version_conflict, with the version that is; without an expectation the change is made."""
    made = AGENT.create(rest, owner)
    AGENT.on(rest, owner, "update", made["id"], config=SECOND)
    with refused("PT409", "version_conflict", "the agent is at version 2"):
        AGENT.on(rest, owner, "update", made["id"], config=FIRST, expected_version=expected)
    assert AGENT.on(rest, owner, "update", made["id"], config=FIRST)["version"] == 3


def test_two_changes_of_one_version_are_one(
    rest: Connection, connect: Connect, admin: Connection, owner: Person
) -> None:
    """The second waits for the first, and then finds its version gone."""
    made = AGENT.create(rest, owner)
    second = connect("authenticator")

    def change(connection: Connection, config: Json) -> Json:
        return AGENT.on(connection, owner, "update", made["id"], config=config, expected_version=1)

    with refused("PT409", "version_conflict"):
        behind(admin, rest, lambda: change(rest, SECOND), second, lambda: change(second, {"name": "Third"}))
    assert versions(rest, owner, made["id"]) == [(1, "First"), (2, "Second")]


def test_versions_belong_to_their_agents_owner(rest: Connection, admin: Connection, owner: Person) -> None:
    """A stranger reads the ready-made agent's versions and none of another's."""
    made = AGENT.create(rest, owner)
    stranger = sign_up(admin, "stranger")
    assert versions(rest, stranger, made["id"]) == []
    assert versions(rest, stranger, "default") == [(1, "Claude")]


def test_an_environment_is_replaced(rest: Connection, owner: Person) -> None:
    """It has no versions: the new configuration stands in place of the old."""
    made = ENVIRONMENT.create(rest, owner)
    changed = ENVIRONMENT.on(rest, owner, "update", made["id"], config=SECOND)
    assert (changed["id"], changed["config"], changed["created_at"]) == (made["id"], SECOND, made["created_at"])
    assert changed["updated_at"] > made["updated_at"]


def test_a_deleted_environment_is_gone(rest: Connection, admin: Connection, owner: Person) -> None:
    """Deleting answers with the id; again, or by a stranger, it is not found."""
    made = ENVIRONMENT.create(rest, owner)
    stranger = sign_up(admin, "stranger")
    with refused("PT404", "environment_not_found"):
        stranger.call(rest, "delete_environment_v1", environment_id=made["id"])
    assert owner.call(rest, "delete_environment_v1", environment_id=made["id"]) == {"id": made["id"]}
    with refused("PT404", "environment_not_found"):
        owner.call(rest, "delete_environment_v1", environment_id=made["id"])


@every_noun
def test_archived_ones_do_not_change(rest: Connection, owner: Person, noun: Noun) -> None:
    """Archiving keeps its first time however often it is asked for, and ends every change."""
    made = noun.create(rest, owner)
    archived = noun.on(rest, owner, "archive", made["id"])
    assert archived["archived_at"] is not None
    assert noun.on(rest, owner, "archive", made["id"]) == archived
    with refused("PT409", f"{noun.name}_archived"):
        noun.on(rest, owner, "update", made["id"], config=SECOND)


@every_noun
def test_a_key_makes_one(rest: Connection, admin: Connection, owner: Person, noun: Noun) -> None:
    """The same key and request answer as the first time, even after a change; another request is PT409."""
    made = noun.create(rest, owner, idempotency_key="k")
    noun.on(rest, owner, "update", made["id"], config=SECOND)
    assert noun.create(rest, owner, idempotency_key="k") == made
    assert count(admin, noun, owner) == 1
    with refused("PT409", "idempotency_key_reused"):
        noun.create(rest, owner, idempotency_key="k", request_hash=OTHER_HASH)
    assert noun.create(rest, sign_up(admin, "stranger"), idempotency_key="k")["id"] != made["id"]


@every_noun
@pytest.mark.parametrize("verb", ["update", "archive"])
def test_a_key_changes_once(rest: Connection, owner: Person, noun: Noun, verb: str) -> None:
    """A change or an archiving sent again under its key answers as the first time and does nothing."""
    made = noun.create(rest, owner)
    arguments: Json = {"config": SECOND, "idempotency_key": "k"} if verb == "update" else {"idempotency_key": "k"}
    first = noun.on(rest, owner, verb, made["id"], **arguments)
    if verb == "update":
        noun.on(rest, owner, verb, made["id"], config={"name": "Third"})
    assert noun.on(rest, owner, verb, made["id"], **arguments) == first


@every_noun
def test_ten_requests_at_once_with_one_key_make_one(
    connect: Connect, admin: Connection, owner: Person, noun: Noun
) -> None:
    """All ten get the same answer."""
    connections = [connect("authenticator") for _ in range(10)]
    answers = at_once([lambda c=c: noun.create(c, owner, idempotency_key="k") for c in connections])  # type: ignore[misc]
    assert [answer for answer in answers if answer != answers[0]] == []
    assert count(admin, noun, owner) == 1


@every_noun
@pytest.mark.parametrize("config", [{}, {"name": ""}, {**FIRST, "y": "x" * (256 << 10)}, {**FIRST, "y": 10**400}])
def test_what_is_no_configuration_is_refused(rest: Connection, owner: Person, noun: Noun, config: Json) -> None:
    """Without a name, too large, or with a number that readers cannot read: a CHECK says no, here and in a change."""
    with refused("23514"):
        noun.create(rest, owner, config=config)
    made = noun.create(rest, owner)
    with refused("23514"):
        noun.on(rest, owner, "update", made["id"], config=config)
