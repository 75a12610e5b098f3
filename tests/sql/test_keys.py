"""API keys: made and revoked by their owner, used by the control plane, and never more than what they were given."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace

import psycopg
import pytest

from tests.sql.conftest import Connect
from tests.sql.people import ANON, SERVICE, Connection, Person, acting, refused, scalar, sign_up
from tests.sql.runs import HASH, OTHER_HASH, Json
from tests.sql.turns import at_once, behind

ALL = ["run", "read", "admin"]


@dataclass(frozen=True)
class Secret:
    """What a client shows, and what the database is told of it."""

    text: str

    @classmethod
    def new(cls) -> Secret:
        """A random one."""
        return cls(f"sst_{secrets.token_urlsafe(32)}")

    @property
    def hash(self) -> str:
        """In hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def create(rest: Connection, owner: Person, secret: Secret | None = None, **changes: object) -> Json:
    """The answer of create_key_v1."""
    secret = secret or Secret.new()
    given = {"name": "ci", "scopes": ALL, "prefix": secret.text[:12], "hash": secret.hash, "request_hash": HASH}
    asked: Json = {**given, **changes}
    return dict(owner.call(rest, "create_key_v1", **{**asked, "scopes": as_array(asked["scopes"])}))


def as_array(scopes: list[str | None]) -> str:
    """A Postgres array; a list would go out as JSON."""
    return "{" + ",".join("NULL" if scope is None else f'"{scope}"' for scope in scopes) + "}"


def use(rest: Connection, secret: Secret) -> Json:
    """The answer of use_key_v1."""
    return dict(SERVICE.call(rest, "use_key_v1", hash=secret.hash))


def refuses(rest: Connection, secret: Secret) -> None:
    """The key does not hold, and the refusal does not say why."""
    with refused("PT401", "invalid_key", "the API key is not valid"):
        use(rest, secret)


def behind_key(owner: Person, *scopes: str) -> Person:
    """The owner as one of their keys: the claims that the endpoints mint."""
    return replace(owner, claims={**owner.claims, "key_id": "key_0", "scopes": list(scopes)})


def of_admin(admin: Connection, key: Json, column: str) -> object:
    """A column of the key's row."""
    return scalar(admin, f"select {column} from public.api_keys where id = %s", (key["id"],))


def test_a_key_is_made_and_used(rest: Connection, owner: Person) -> None:
    """The secret's hash finds its owner and its scopes; what the owner is told holds no hash."""
    secret = Secret.new()
    key = create(rest, owner, secret, scopes=["run", "read"])
    assert use(rest, secret) == {
        "id": key["id"], "owner": str(owner.id), "scopes": ["run", "read"], "expires_at": None,
    }  # fmt: skip
    assert (key["name"], key["prefix"], key["revoked_at"]) == ("ci", secret.text[:12], None)
    assert set(key) == {
        "id", "name", "prefix", "scopes", "expires_at", "last_used_at", "revoked_at", "created_at",
    }  # fmt: skip


def test_an_unknown_hash_is_no_key(rest: Connection) -> None:
    """Nobody made it."""
    refuses(rest, Secret.new())


def test_a_revoked_key_is_no_key_any_more(rest: Connection, admin: Connection, owner: Person) -> None:
    """From the commit on; revoked again, the first time stays."""
    secret = Secret.new()
    key = create(rest, owner, secret)
    revoked = owner.call(rest, "revoke_key_v1", key_id=key["id"])
    refuses(rest, secret)
    assert revoked["revoked_at"] is not None
    assert owner.call(rest, "revoke_key_v1", key_id=key["id"]) == revoked


def test_a_revocation_waits_for_nobody_but_a_use_that_is_being_noted(
    connect: Connect, admin: Connection, owner: Person
) -> None:
    """A use that began before the revocation committed is the last: the next one is refused."""
    first, second, secret = connect("authenticator"), connect("authenticator"), Secret.new()
    key = create(first, owner, secret)
    behind(
        admin, first, lambda: use(first, secret),
        second, lambda: owner.call(second, "revoke_key_v1", key_id=key["id"]),
    )  # fmt: skip
    refuses(first, secret)


def test_an_expired_key_is_no_key_any_more(rest: Connection, admin: Connection, owner: Person) -> None:
    """Its end is exact: the moment itself is past it."""
    secret = Secret.new()
    key = create(rest, owner, secret, expires_at="2999-01-01T00:00:00Z")
    assert use(rest, secret)["expires_at"] == "2999-01-01T00:00:00+00:00"
    admin.execute(
        "update public.api_keys set created_at = now() - interval '2 hours', expires_at = now() - interval '1 hour'"
        " where id = %s",
        (key["id"],),
    )
    refuses(rest, secret)


@pytest.mark.parametrize("moment", ["2020-01-01T00:00:00Z", "-infinity"])
def test_a_key_that_has_expired_before_it_is_made_is_refused(rest: Connection, owner: Person, moment: str) -> None:
    """The schema does not hold it."""
    with refused("23514"):
        create(rest, owner, expires_at=moment)


@pytest.mark.parametrize(
    "gone", ["banned_until = now() + interval '1 hour'", "deleted_at = now()"], ids=["banned", "deleted"]
)
def test_the_keys_of_an_owner_who_is_gone_are_none(
    rest: Connection, admin: Connection, owner: Person, gone: str
) -> None:
    """A ban that ends a user's sessions would be worth little if their keys went on."""
    secret = Secret.new()
    create(rest, owner, secret)
    admin.execute(f"update auth.users set {gone} where id = %s", (owner.id,))
    refuses(rest, secret)
    admin.execute("update auth.users set banned_until = now(), deleted_at = null where id = %s", (owner.id,))
    assert use(rest, secret)["owner"] == str(owner.id)


def test_a_use_is_noted_at_most_once_a_minute(rest: Connection, admin: Connection, owner: Person) -> None:
    """The first use writes, the next ones do not, and one after a minute does."""
    secret = Secret.new()
    key = create(rest, owner, secret)
    assert of_admin(admin, key, "last_used_at") is None
    use(rest, secret)
    written = of_admin(admin, key, "xmin::text || last_used_at")
    use(rest, secret)
    assert of_admin(admin, key, "xmin::text || last_used_at") == written
    admin.execute("update public.api_keys set last_used_at = now() - interval '61 s' where id = %s", (key["id"],))
    use(rest, secret)
    assert of_admin(admin, key, "last_used_at > now() - interval '60 s'") is True


def test_many_uses_at_once_do_not_fail(connect: Connect, admin: Connection, owner: Person) -> None:
    """Whoever comes second to note the first use finds it noted."""
    secret = Secret.new()
    connections = [connect("authenticator") for _ in range(8)]
    key = create(connections[0], owner, secret)
    answers = at_once([lambda c=c: use(c, secret) for c in connections])  # type: ignore[misc]
    assert {answer["id"] for answer in answers} == {key["id"]}


def test_a_strangers_key_cannot_be_seen_or_revoked(rest: Connection, admin: Connection, owner: Person) -> None:
    """It is 404 for everyone but its owner, and goes on."""
    secret = Secret.new()
    key = create(rest, owner, secret)
    stranger = sign_up(admin, "stranger")
    with acting(rest, stranger):
        assert scalar(rest, "select count(id) from public.api_keys") == 0
    with refused("PT404", "key_not_found"):
        stranger.call(rest, "revoke_key_v1", key_id=key["id"])
    assert use(rest, secret)["id"] == key["id"]


def test_nobody_reads_the_hash(rest: Connection, owner: Person) -> None:
    """Not even the owner, nor the control plane; the other columns are the owner's to read."""
    create(rest, owner)
    for person in (owner, SERVICE, ANON):
        for columns in ("hash", "*"):
            with refused("42501"), acting(rest, person):
                rest.execute(f"select {columns} from public.api_keys")
    with acting(rest, owner):
        row = rest.execute(
            "select id, owner, name, prefix, scopes, expires_at, last_used_at, revoked_at, created_at"
            " from public.api_keys"
        ).fetchall()
    assert len(row) == 1


@pytest.mark.parametrize("scopes", [["read"], ["run"], ["run", "read"], []])
def test_a_key_without_admin_makes_and_revokes_none(rest: Connection, owner: Person, scopes: list[str]) -> None:
    """Also where somebody forgot to ask for the scope in Python."""
    key = create(rest, owner)
    with refused("PT403", "scope_missing"):
        create(rest, behind_key(owner, *scopes), scopes=["read"])
    with refused("PT403", "scope_missing"):
        behind_key(owner, *scopes).call(rest, "revoke_key_v1", key_id=key["id"])


def test_a_key_makes_no_key_that_may_do_more(rest: Connection, owner: Person) -> None:
    """An administering key hands on what it has and nothing else; its owner hands on everything."""
    keeper = behind_key(owner, "admin", "read")
    assert create(rest, keeper, scopes=["read"])["scopes"] == ["read"]
    with refused("PT403", "scope_missing"):
        create(rest, keeper, scopes=["read", "run"])
    assert create(rest, owner, scopes=ALL)["scopes"] == ALL


def test_a_key_whose_scopes_are_not_said_may_do_nothing(rest: Connection, owner: Person) -> None:
    """A token that names a key and no scopes is no user's token."""
    nameless = replace(owner, claims={**owner.claims, "key_id": "key_0"})
    with refused("PT403", "scope_missing"):
        create(rest, nameless, scopes=["read"])


def test_the_same_request_again_makes_no_second_key(rest: Connection, admin: Connection, owner: Person) -> None:
    """It is refused by the first one's id, since its secret cannot be shown again; nothing is made."""
    secret = Secret.new()
    key = create(rest, owner, secret, idempotency_key="k")
    told = f"this request made {key['id']} before, whose secret was shown once; revoke it and make another"
    with refused("PT409", "secret_not_shown_again", told):
        create(rest, owner, idempotency_key="k")
    with refused("PT409", "idempotency_key_reused"):
        create(rest, owner, idempotency_key="k", request_hash=OTHER_HASH)
    assert scalar(admin, "select count(*) from public.api_keys where owner = %s", (owner.id,)) == 1
    assert use(rest, secret)["id"] == key["id"]
    assert create(rest, sign_up(admin, "stranger"), idempotency_key="k")["id"] != key["id"]


def test_of_the_same_request_at_once_one_makes_a_key(connect: Connect, admin: Connection, owner: Person) -> None:
    """The others wait for it, and are refused by its id."""

    def attempt(connection: Connection) -> str:
        try:
            return str(create(connection, owner, idempotency_key="k")["id"])
        except psycopg.Error as error:
            return str(error.diag.message_primary)

    connections = [connect("authenticator") for _ in range(8)]
    answers = at_once([lambda c=c: attempt(c) for c in connections])  # type: ignore[misc]
    assert answers.count("secret_not_shown_again") == 7
    assert scalar(admin, "select count(*) from public.api_keys where owner = %s", (owner.id,)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"scopes": []},
        {"scopes": ["read", "read", "run", "admin"]},
        {"name": ""},
        {"name": "x" * 201},
        {"prefix": "sst_short"},
        {"prefix": "sst_with spa"},
        {"hash": "00"},
    ],
    ids=str,
)
def test_the_schema_refuses_what_is_no_key(rest: Connection, owner: Person, change: Json) -> None:
    """Whoever calls: a key has a name, some scopes, and a whole hash."""
    with refused("23514"):
        create(rest, owner, **change)


@pytest.mark.parametrize("scope", ["root", "Read", "", None])
def test_a_scope_that_there_is_not_is_refused(rest: Connection, owner: Person, scope: str | None) -> None:
    """Before anything is kept: nobody has it to give."""
    with refused("PT403", "scope_missing"):
        create(rest, owner, scopes=["read", scope])


def test_a_secret_belongs_to_one_key(rest: Connection, admin: Connection, owner: Person) -> None:
    """A second key with the same hash would make it uncertain who calls."""
    secret = Secret.new()
    create(rest, owner, secret)
    with refused("23505"):
        create(rest, sign_up(admin, "stranger"), secret)


def test_nobody_makes_a_key_without_signing_in(rest: Connection, admin: Connection, owner: Person) -> None:
    """A token whose user is gone makes none, and takes its keys with it."""
    secret = Secret.new()
    create(rest, owner, secret)
    admin.execute("delete from auth.users where id = %s", (owner.id,))
    with refused("PT401", "not_signed_in"):
        create(rest, owner)
    refuses(rest, secret)
