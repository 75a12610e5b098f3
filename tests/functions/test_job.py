"""The job file, as the runner's own parser reads it."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from functions import job
from functions.settings import Settings
from sandbox_scripts.job import Job as RunnersJob

Json = dict[str, Any]
RUN: Json = {"id": str(uuid4()), "session_id": str(uuid4()), "epoch": 1, "kind": "claude", "limit_seconds": 3540}
REPOSITORY = {
    "id": "res_1",
    "type": "github_repository",
    "url": "https://github.test/acme/site.git",
    "mount_path": "/workspace/site",
    "checkout": {"type": "branch", "name": "main"},
    "created_at": "2026-11-21T08:00:00Z",
}


@pytest.fixture
def with_key(settings: Settings) -> Settings:
    """Settings of a deployment that may call a model."""
    return Settings(**{**settings.model_dump(exclude_unset=True), "anthropic_api_key": "sk-ant-canary"})


def session(**changes: Any) -> Json:
    known = {
        "agent": {"id": "default", "version": 1, "model": {"id": "claude-sonnet-5"}},
        "resources": [],
        "taken_seq": 7,
        "has_transcript": True,
        "lost_after_seq": None,
        "budget_microusd": None,
        "cost_microusd": 0,
    }
    return {**known, **changes}


def test_a_turn_is_told_all_that_it_needs(with_key: Settings) -> None:
    """What it takes up, as whom, for how long; and no secret."""
    made = job.of_conversation(with_key, RUN, "the.token", session(resources=[REPOSITORY]), is_fresh=True)
    assert made.content["input"] == {
        "after_seq": 7,
        "resume": True,
        "fresh": True,
        "lost_after_seq": None,
        "agent": session()["agent"],
        "resources": [{name: REPOSITORY[name] for name in ("url", "mount_path", "checkout")}],
        "model_url": "https://api.anthropic.com",
        "budget_microusd": None,
        "limits": {
            "turn_seconds": 1800,
            "confirmation_seconds": 3600,
            "exit_seconds": 10,
            "silent_seconds": 600,
            "interrupt_seconds": 2,
        },
    }
    assert made.content["working_directory"] == "~/workspace"
    assert made.environment == {}
    assert "the.token" not in str(made.content)
    assert "sk-ant-canary" not in str(made.content)


def test_the_runner_reads_it(with_key: Settings, tmp_path: Path) -> None:
    """Every field that the runner asks for is there, for plans and for turns."""
    for made in (
        job.of_conversation(with_key, RUN, "token", session(), is_fresh=False),
        job.of_plan(with_key, {**RUN, "kind": "commands"}, "token", {"commands": []}),
    ):
        read = RunnersJob(made.content, str(tmp_path))
        assert (read.run_id, read.session_id, read.kind) == (RUN["id"], RUN["session_id"], made.content["kind"])
        assert read.ended_url == f"https://endpoints.test/v1/runs/{RUN['id']}/ended"


@pytest.mark.parametrize(("budget", "cost", "left"), [(None, 5, None), (100, 30, 70), (100, 100, 0), (100, 130, 0)])
def test_the_budget_is_what_is_left_of_it(budget: int | None, cost: int, left: int | None, with_key: Settings) -> None:
    """In millionths of a dollar; never below nothing."""
    made = session(budget_microusd=budget, cost_microusd=cost)
    assert job.conversation_input(with_key, made, is_fresh=False)["budget_microusd"] == left


def test_without_egress_rules_the_runner_holds_the_secrets(with_key: Settings) -> None:
    """In its environment, never in its file."""
    plain = Settings(**{**with_key.model_dump(exclude_unset=True), "credentials": "env"})
    made = job.of_conversation(plain, RUN, "the.token", session(), is_fresh=False)
    assert made.environment == {"SANDSTREAM_RUN_TOKEN": "the.token", "ANTHROPIC_API_KEY": "sk-ant-canary"}
    assert "sk-ant-canary" not in str(made.content)
    plan = job.of_plan(plain, {**RUN, "kind": "commands"}, "the.token", {"commands": []})
    assert plan.environment == {"SANDSTREAM_RUN_TOKEN": "the.token"}


def test_the_next_runner_gets_the_same_job_under_the_next_epoch(with_key: Settings) -> None:
    """Only the epoch is another, so that what was begun is gone on with; the folder stays."""
    before = job.of_conversation(with_key, RUN, "token", session(), is_fresh=True)
    after = job.again(with_key, before.content, 2, "newer")
    assert after.content == {**before.content, "epoch": 2}
    assert after.folder == before.folder


ASKED: Json = {
    "query": "What is it?",
    "context": ["for us"],
    "egress": ["example.test"],
    "planner": {"provider": "openai", "model": "any-model"},
    "budget_microusd": 20_000,
}


def asking(settings: Settings, **changes: Any) -> Settings:
    given = {"openai_api_key": "sk-openai-canary", "egress_allow": "operators.test", **changes}
    return Settings(**{**settings.model_dump(exclude_unset=True), **given})


def test_a_question_is_told_where_to_ask_and_where_its_commands_may_go(settings: Settings) -> None:
    """The planner's address is the deployment's; no secret is in the file."""
    made = job.of_research(asking(settings), {**RUN, "kind": "research"}, "the.token", ASKED)
    assert made.content["input"] == {
        "query": "What is it?",
        "context": ["for us"],
        "hosts": ["operators.test", "example.test"],
        "planner": {"provider": "openai", "model": "any-model", "url": "https://api.openai.com/v1"},
        "budget_microusd": 20_000,
    }
    assert made.environment == {}
    assert "sk-openai-canary" not in str(made.content)


@pytest.mark.parametrize(
    ("model", "variable", "key"),
    [
        ("any-model", "OPENAI_API_KEY", "sk-openai-canary"),
        ("claude-opus-5", "ANTHROPIC_API_KEY", "sk-ant-canary"),
    ],
)
def test_without_egress_rules_the_runner_holds_its_planners_key(
    model: str, variable: str, key: str, settings: Settings
) -> None:
    """That one only; and so does the next runner."""
    plain = asking(settings, anthropic_api_key="sk-ant-canary", credentials="env")
    asked = {**ASKED, "planner": {"provider": "", "model": model}}
    made = job.of_research(plain, {**RUN, "kind": "research"}, "the.token", asked)
    assert made.environment == {"SANDSTREAM_RUN_TOKEN": "the.token", variable: key}
    assert job.again(plain, made.content, 2, "newer").environment == {"SANDSTREAM_RUN_TOKEN": "newer", variable: key}
