"""What outlives a sandbox: transcripts, files and attachments, for the token of a live run and its own session only."""

from __future__ import annotations

from base64 import b64decode, b64encode
from os import urandom
from typing import Any
from uuid import uuid4

import pytest

from tests.sql.conftest import Connect
from tests.sql.conversations import create, end_turn, message, new_turn, send, session_row, turn_of
from tests.sql.people import Connection, column, refused, sign_up
from tests.sql.runs import Json, Run, finish, lose, new_run, next_epoch
from tests.sql.turns import at_once

MEBI = 1 << 20
SUBAGENT = "subagents/agent-1"

CALLS: list[tuple[str, Json]] = [
    ("take_input_v1", {"after": 0}),
    ("preview_v1", {"previews": []}),
    ("append_transcript_v1", {"subpath": "", "entries": [{"uuid": "a"}]}),
    ("load_transcript_v1", {"subpath": "", "after": 0}),
    ("list_transcripts_v1", {}),
    ("save_files_v1", {"archive": "aGk=", "files": 1, "bytes": 2}),
    ("load_files_v1", {}),
    ("read_attachment_v1", {"id": str(uuid4())}),
]
every_call = pytest.mark.parametrize(("function", "arguments"), CALLS, ids=[name for name, _ in CALLS])


def entry(id: str, size: int = 0) -> Json:
    """A line of a transcript, as the SDK's session store passes it on."""
    return {"uuid": id, "type": "user", "message": {"role": "user", "content": "x" * size}}


def keep(rest: Connection, run: Run, *entries: Json, subpath: str | None = "") -> Json:
    """The answer of append_transcript_v1."""
    return dict(run.runner.call(rest, "append_transcript_v1", subpath=subpath, entries=list(entries)))


def load(rest: Connection, run: Run, after: int = 0, subpath: str = "") -> Json:
    """The answer of load_transcript_v1."""
    return dict(run.runner.call(rest, "load_transcript_v1", subpath=subpath, after=after))


def kept(rest: Connection, run: Run, subpath: str = "") -> list[Json]:
    """The whole transcript, page by page."""
    entries: list[Json] = []
    after, more = 0, True
    while more:
        page = load(rest, run, after, subpath)
        entries += [line["entry"] for line in page["entries"]]
        more = page["more"]
        after = page["entries"][-1]["n"] if page["entries"] else after
    return entries


def save(rest: Connection, run: Run, archive: bytes, files: int = 1) -> Json:
    """The answer of save_files_v1."""
    text = b64encode(archive).decode()
    return dict(run.runner.call(rest, "save_files_v1", archive=text, files=files, bytes=len(archive)))


def follow_up(rest: Connection, admin: Connection, run: Run) -> Run:
    """The session's next turn, after this one has ended."""
    end_turn(rest, admin, run)
    return turn_of(send(rest, run.owner, run.session_id, message("next")), run.owner)


def attachment(data: bytes = b"hello", **changes: object) -> Json:
    """An attachment as the endpoint passes it on."""
    text = b64encode(data).decode()
    return {"id": str(uuid4()), "media_type": "text/plain", "title": None, "data": text, **changes}


def test_a_transcript_comes_back_as_it_was_kept(rest: Connection, admin: Connection, turn: Run) -> None:
    """The next turn loads the entries of all before it, in order and equal, and the session says that it can resume."""
    entries: list[Json] = [
        entry("a", 10),
        {"type": "mode", "uuid": None, "deep": {"ü": [1, 2.5, None, True]}},
        entry("b"),
    ]
    assert keep(rest, turn, *entries[:2]) == {"taken": 2, "last_n": 2}
    assert keep(rest, turn, entries[2]) == {"taken": 1, "last_n": 3}
    later = follow_up(rest, admin, turn)
    assert kept(rest, later) == entries
    assert keep(rest, later, entry("c"))["last_n"] == 4
    assert [entry["uuid"] for entry in kept(rest, later)] == ["a", None, "b", "c"]


def test_the_facts_say_what_there_is(rest: Connection, turn: Run) -> None:
    """has_transcript turns true with the conversation's own first entry, not a sub-agent's; has_files with a save."""

    def facts() -> tuple[bool, bool]:
        session = send(rest, turn.owner, turn.session_id)["session"]
        return session["has_transcript"], session["has_files"]

    keep(rest, turn, entry("a"), subpath=SUBAGENT)
    assert facts() == (False, False)
    keep(rest, turn, entry("a"))
    assert facts() == (True, False)
    save(rest, turn, b"x")
    assert facts() == (True, True)


def test_an_entry_is_kept_once(rest: Connection, turn: Run) -> None:
    """A batch that is sent again, in part or whole, or that repeats itself adds only what is new."""
    keep(rest, turn, entry("a"), entry("b"))
    assert keep(rest, turn, entry("a"), entry("b"))["taken"] == 0
    assert keep(rest, turn, entry("b"), entry("c"), entry("c"))["taken"] == 1
    assert [line["uuid"] for line in kept(rest, turn)] == ["a", "b", "c"]


def test_entries_without_an_id_are_kept_each_time(rest: Connection, turn: Run) -> None:
    """Titles and marks have no uuid: the store's promise is to append them."""
    for _ in range(2):
        keep(rest, turn, {"type": "title"}, {"type": "tag", "uuid": ""})
    assert len(kept(rest, turn)) == 4


def test_each_subpath_is_a_transcript(rest: Connection, turn: Run) -> None:
    """A sub-agent's stands beside the conversation's, with the same ids; both are listed; none is an empty one."""
    assert turn.runner.call(rest, "list_transcripts_v1") == []
    keep(rest, turn, entry("a"), subpath=None)
    keep(rest, turn, entry("a"), entry("b"), subpath=SUBAGENT)
    assert turn.runner.call(rest, "list_transcripts_v1") == ["", SUBAGENT]
    assert (len(kept(rest, turn)), len(kept(rest, turn, SUBAGENT))) == (1, 2)
    assert load(rest, turn, subpath="nothing") == {"entries": [], "more": False}


def test_a_long_transcript_comes_in_pages(rest: Connection, turn: Run) -> None:
    """Pages of about 4 MiB, each with one entry at least, together the whole; past the end there is nothing more."""
    for n in range(4):
        keep(rest, turn, entry(f"a{n}", 3 * MEBI // 2))
    keep(rest, turn, entry("large", 6 * MEBI))
    keep(rest, turn, *[entry(f"b{n}") for n in range(2000)])
    first = load(rest, turn)
    assert ([line["entry"]["uuid"] for line in first["entries"]], first["more"]) == (["a0", "a1"], True)
    assert [line["entry"]["uuid"] for line in load(rest, turn, after=4)["entries"]] == ["large"]
    ids = [line["uuid"] for line in kept(rest, turn)]
    assert ids == ["a0", "a1", "a2", "a3", "large", *[f"b{n}" for n in range(2000)]]
    assert load(rest, turn, after=99999) == {"entries": [], "more": False}


def test_writers_at_once_lose_no_entry(connect: Connect, rest: Connection, turn: Run) -> None:
    """Ten batches at the same time, half of them repeats, are each kept once."""
    connections = [connect("authenticator") for _ in range(10)]
    at_once([lambda c=c, n=n: keep(c, turn, entry(f"a{n % 5}"), entry(f"b{n}")) for n, c in enumerate(connections)])  # type: ignore[misc]
    ids = [line["uuid"] for line in kept(rest, turn)]
    assert sorted(ids) == sorted([f"a{n}" for n in range(5)] + [f"b{n}" for n in range(10)])


@pytest.mark.parametrize(
    ("entries", "code"),
    [({}, "PT400"), ([entry("a", 8 * MEBI)], "PT413"), ([entry("a")] * 2001, "PT413"), (["text"], "23514")],
)
def test_what_is_no_transcript_is_refused(rest: Connection, turn: Run, entries: Any, code: str) -> None:
    """No list, more than 8 MiB or 2,000 entries, or an entry that is no object: nothing of the batch is kept."""
    with refused(code):
        turn.runner.call(rest, "append_transcript_v1", subpath="", entries=entries)
    assert kept(rest, turn) == []


def test_files_come_back_as_they_were_saved(rest: Connection, admin: Connection, turn: Run) -> None:
    """The newest save only, byte for byte, in base64 without line breaks; null before the first."""
    assert turn.runner.call(rest, "load_files_v1") is None
    save(rest, turn, b"old")
    archive = urandom(300)
    saved = save(rest, turn, archive, files=7)
    loaded = follow_up(rest, admin, turn).runner.call(rest, "load_files_v1")
    assert (b64decode(loaded["archive"], validate=True), loaded["files"], loaded["bytes"]) == (archive, 7, 300)
    assert loaded["saved_at"] == saved["saved_at"]


@pytest.mark.parametrize(
    ("archive", "files", "code"),
    [("x" * (12 * MEBI + 4), 1, "PT413"), ("no base64!", 1, "22023"), ("aGk=", -1, "23514")],
)
def test_what_is_no_archive_is_refused(rest: Connection, turn: Run, archive: str, files: int, code: str) -> None:
    """More than 12 MiB, no base64, a count below zero: what was saved before stays."""
    save(rest, turn, b"old")
    with refused(code):
        turn.runner.call(rest, "save_files_v1", archive=archive, files=files, bytes=1)
    assert b64decode(turn.runner.call(rest, "load_files_v1")["archive"]) == b"old"


def test_the_largest_archive_fits(rest: Connection, turn: Run) -> None:
    """12 MiB of base64 and no less."""
    archive = bytes(9 * MEBI)
    save(rest, turn, archive)
    assert b64decode(turn.runner.call(rest, "load_files_v1")["archive"]) == archive


def test_attachments_are_read_by_the_run(rest: Connection, admin: Connection) -> None:
    """Those of the session's first messages and of later ones, by this turn and the next."""
    data = urandom(200)
    first, second = attachment(data, title="A picture", media_type="image/png"), attachment()
    owner = sign_up(admin)
    turn = turn_of(create(rest, owner, message(), attachments=[first]), owner)
    read = turn.runner.call(rest, "read_attachment_v1", id=first["id"])
    assert read == {name: first[name] for name in ("media_type", "data", "title")}
    assert b64decode(read["data"], validate=True) == data
    with refused("PT404", "attachment_not_found"):
        turn.runner.call(rest, "read_attachment_v1", id=second["id"])


def test_attachments_come_with_later_messages(rest: Connection, admin: Connection, turn: Run) -> None:
    """A message to a live turn brings its own, and the turn after it reads them too."""
    given = attachment()
    send(rest, turn.owner, turn.session_id, message(), attachments=[given])
    assert turn.runner.call(rest, "read_attachment_v1", id=given["id"])["data"] == given["data"]
    later = follow_up(rest, admin, turn)
    assert later.runner.call(rest, "read_attachment_v1", id=given["id"])["data"] == given["data"]


def test_attachments_are_kept_once_for_a_key(rest: Connection, admin: Connection, turn: Run) -> None:
    """A request that is sent again stores nothing again."""
    given = attachment()
    for _ in range(2):
        send(rest, turn.owner, turn.session_id, message(), attachments=[given], idempotency_key="k")
    query = "select id::text from public.session_attachments where session_id = %s"
    assert column(admin, query, (turn.session_id,)) == [given["id"]]


@pytest.mark.parametrize(
    ("attachments", "code"),
    [
        ([{**attachment(), "data": "no base64!"}], "22023"),
        ([attachment(media_type="")], "23514"),
        ([attachment()] * 201, "PT413"),
        ([attachment(bytes(16 * MEBI + 1))], "23514"),
    ],
    ids=["no base64", "no media type", "many", "large"],
)
def test_what_is_no_attachment_is_refused(
    rest: Connection, admin: Connection, turn: Run, attachments: list[Json], code: str
) -> None:
    """The message that comes with it is refused as well."""
    with refused(code):
        send(rest, turn.owner, turn.session_id, message(), attachments=attachments)
    assert session_row(admin, turn.session_id)["last_seq"] == 2


def test_a_runner_reaches_its_own_session_only(rest: Connection, admin: Connection, turn: Run) -> None:
    """Another session's transcript, files, attachments and words are not there, the same owner's neither."""
    given = attachment()
    send(rest, turn.owner, turn.session_id, message("secret"), attachments=[given])
    keep(rest, turn, entry("a"))
    save(rest, turn, b"x")
    other = new_turn(rest, admin, turn.owner)
    assert (kept(rest, other), other.runner.call(rest, "list_transcripts_v1")) == ([], [])
    assert other.runner.call(rest, "load_files_v1") is None
    with refused("PT404", "attachment_not_found"):
        other.runner.call(rest, "read_attachment_v1", id=given["id"])
    assert "secret" not in str(other.runner.call(rest, "take_input_v1", after=0))


@every_call
def test_a_token_must_fit_its_run(
    rest: Connection, admin: Connection, turn: Run, function: str, arguments: Json
) -> None:
    """Another session's id, a run that never was, another audience or role: PT403 not_a_run_token."""
    other = new_run(rest, admin)
    for claims in ({"session_id": str(other.session_id)}, {"run_id": str(uuid4())}, {"aud": None}, {"aud": "x"}):
        with refused("PT403", "not_a_run_token"):
            turn.claiming(**claims).call(rest, function, **arguments)


@every_call
def test_an_older_epoch_is_shut_out(rest: Connection, turn: Run, function: str, arguments: Json) -> None:
    """PT403 stale_epoch, for reading as for writing."""
    next_epoch(rest, turn)
    with refused("PT403", "stale_epoch", "the run is at epoch 2"):
        turn.runner.call(rest, function, **arguments)


@every_call
@pytest.mark.parametrize("end", ["failed", "lost"])
def test_a_finished_run_is_refused(
    rest: Connection, admin: Connection, turn: Run, function: str, arguments: Json, end: str
) -> None:
    """PT409 run_finished, whoever ended it: what the session keeps is its next run's."""
    if end == "lost":
        lose(admin, turn)
    else:
        finish(rest, turn.runner, 0, end)
    with refused("PT409", "run_finished", f"the run has {end}"):
        turn.runner.call(rest, function, **arguments)
