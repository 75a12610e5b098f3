"""Sessions: what a request may say, and how a row is answered."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from anthropic.types.beta import BetaManagedAgentsSession
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from functions.agents import AgentRequest, snapshot
from functions.conversations import SessionRequest, SessionUpdate, as_session, cents
from functions.errors import InvalidRequest, NotBuilt

Json = dict[str, Any]
ID = "00000000-0000-4000-8000-000000000000"
CONFIG = AgentRequest.model_validate({"name": "Helper", "model": "m", "system": "s"}).config(())
AGENT = snapshot("agent_1", 2, CONFIG)


def row(**more: Any) -> Json:
    """A session's row."""
    at = "2026-01-01T00:00:00.5+00:00"
    kept = {
        "id": ID, "owner": ID, "title": None, "status": "idle", "last_seq": 3, "metadata": {}, "created_at": at,
        "updated_at": at, "archived_at": None, "agent_id": "agent_1", "agent": AGENT, "environment_id": "env_1",
        "environment": {}, "resources": [], "budget_microusd": None, "cost_microusd": 0, "usage": {},
    }  # fmt: skip
    return {**kept, **more}


def answered(**more: Any) -> Json:
    """How the row is answered; always of the SDK's type."""
    answer = as_session(row(**more))
    TypeAdapter(BetaManagedAgentsSession).validate_json(answer.model_dump_json(), strict=True)
    sent = answer.model_dump(mode="json")
    assert set(BetaManagedAgentsSession.model_fields) <= set(sent)
    return sent


def requested(**more: Any) -> SessionRequest:
    """A request for a session."""
    return SessionRequest.model_validate({"agent": "agent_1", **more})


def test_an_answer_has_what_the_row_says() -> None:
    """And no more: neither the owner nor the environment's inside."""
    sent = answered(title="Mine", metadata={"a": "1"})
    assert (sent["id"], sent["title"], sent["metadata"], sent["last_seq"]) == (ID, "Mine", {"a": "1"}, 3)
    assert (sent["agent"], sent["environment_id"]) == (AGENT, "env_1")
    assert not {"owner", "environment", "cost_microusd"} & set(sent)


def test_a_plan_of_commands_has_an_agent_of_that_name() -> None:
    """A row without an agent is answered like all others."""
    sent = answered(agent_id=None, agent=None, environment_id=None, environment=None)
    assert (sent["agent"]["id"], sent["agent"]["tools"], sent["environment_id"]) == ("commands", [], "default")


def test_usage_is_the_rows() -> None:
    """Nought where nothing was counted; the cost in cents."""
    counted = {"input_tokens": 7, "output_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}
    assert answered(usage=counted)["usage"].items() >= counted.items()
    assert answered()["usage"]["input_tokens"] == 0
    assert answered(cost_microusd=12_345)["usage"]["list_cost"] == {"amount": "2", "currency": "USD"}


@given(st.integers(min_value=0, max_value=10**15))
def test_cents_are_rounded_up(microusd: int) -> None:
    """Never less than was spent, and less than a cent more."""
    amount = int(cents(microusd)["amount"]) * 10_000
    assert microusd <= amount < microusd + 10_000


@settings(deadline=None)
@given(st.integers(min_value=1, max_value=10**12 - 1))
def test_a_budget_is_answered_as_it_was_sent(amount: int) -> None:
    """Through millionths of a dollar and back."""
    sent = {"type": "limit", "max_list_cost": {"amount": str(amount), "currency": "USD"}}
    budget = requested(budget=sent).budget
    assert budget is not None
    assert answered(budget_microusd=budget.microusd)["budget"] == sent


@pytest.mark.parametrize("amount", ["", "0", "01", "-1", "1.5", "1e3", " 1", "9" * 13, 250, None])
def test_what_is_no_amount_is_refused(amount: Any) -> None:
    """Whole cents in digits, and some of them."""
    with pytest.raises(ValidationError):
        requested(budget={"type": "limit", "max_list_cost": {"amount": amount, "currency": "USD"}})


def test_other_money_is_refused() -> None:
    """There is one price list."""
    with pytest.raises(ValidationError):
        requested(budget={"type": "limit", "max_list_cost": {"amount": "1", "currency": "EUR"}})


def test_a_session_ages_until_its_end() -> None:
    """The duration grows while it lives and is frozen once it is terminated."""
    born = datetime.now(UTC) - timedelta(hours=2)
    ended = born + timedelta(hours=1)
    times = {"created_at": born.isoformat(), "updated_at": ended.isoformat()}
    assert answered(**times)["stats"]["duration_seconds"] >= 7200
    assert answered(**times, status="terminated")["stats"]["duration_seconds"] == 3600


@pytest.mark.parametrize(
    ("agent", "id", "version"),
    [
        ("agent_1", "agent_1", None),
        ({"type": "agent", "id": "agent_1"}, "agent_1", None),
        ({"type": "agent", "id": "agent_1", "version": 3}, "agent_1", 3),
        ({"type": "agent_with_overrides", "id": "agent_1", "version": 3}, "agent_1", 3),
    ],
)
def test_an_agent_is_named_in_four_ways(agent: Any, id: str, version: int | None) -> None:
    """And without overrides its configuration is the session's."""
    wanted = requested(agent=agent).agent
    assert (wanted.id, wanted.version) == (id, version)
    assert wanted.applied(CONFIG, ()) == CONFIG


def test_an_override_replaces_a_field() -> None:
    """What is named, and nothing else; null clears the system prompt and leaves the rest."""

    def applied(**overrides: Any) -> Json:
        return requested(agent={"type": "agent_with_overrides", "id": "agent_1", **overrides}).agent.applied(CONFIG, ())

    assert applied(system="t") == {**CONFIG, "system": "t"}
    assert applied(system=None) == {**CONFIG, "system": None}
    assert applied(model="n") == {**CONFIG, "model": {**CONFIG["model"], "id": "n"}}
    assert applied(model=None, tools=None, mcp_servers=None) == CONFIG
    assert len(applied(tools=[{"type": "agent_toolset_20260401"}])["tools"]) == 1


def test_the_environment_may_be_left_out() -> None:
    """The ready-made one is meant."""
    assert requested().environment_id == "default"


def test_a_change_names_what_it_changes() -> None:
    """In the words of SQL: a budget in millionths, metadata as a patch, null for what is taken away."""

    def changes(**more: Any) -> Json:
        return SessionUpdate.model_validate(more).changes()

    budget = {"type": "limit", "max_list_cost": {"amount": "250", "currency": "USD"}}
    assert changes() == {}
    assert changes(title="T", metadata={"a": None}) == {"title": "T", "metadata": {"a": None}}
    assert changes(title=None, metadata=None) == {"title": None}
    assert changes(budget=budget) == {"budget_microusd": 2_500_000}
    assert changes(budget=None) == {"budget_microusd": None}
    with pytest.raises(NotBuilt, match="vault_ids"):
        changes(vault_ids=["vlt_1"])


def test_a_sessions_tools_are_replaced_whole() -> None:
    """All else of its snapshot stays; a list that is left out too."""
    servers = [{"type": "url", "name": "docs", "url": "https://mcp.example.com"}]
    tools = [{"type": "mcp_toolset", "mcp_server_name": "docs"}]

    def applied(agent: Json | None, **change: Any) -> Json:
        update = SessionUpdate.model_validate({"agent": change}).agent
        assert update is not None
        return update.applied(agent, ())

    changed = applied(AGENT, tools=tools, mcp_servers=servers)
    assert {**changed, "tools": [], "mcp_servers": []} == AGENT
    assert changed["mcp_servers"] == servers
    assert applied(changed) == changed
    assert applied(changed, tools=[], mcp_servers=[]) == AGENT
    with pytest.raises(InvalidRequest):
        applied(changed, mcp_servers=[])
    with pytest.raises(InvalidRequest):
        applied(None, tools=[])


@pytest.mark.parametrize(
    "more",
    [
        {"agent": None},
        {"agent": {"type": "agent"}},
        {"agent": {"type": "agent", "id": "a b"}},
        {"agent": {"type": "agent", "id": "agent_1", "system": "x"}},
        {"environment_id": None},
        {"environment_id": "../x"},
        {"metadata": {"a": None}},
        {"initial_events": [1]},
        {"initial_events": {}},
        {"order": "x"},
    ],
)
def test_what_is_no_session_is_refused(more: Json) -> None:
    """Nothing unknown and nothing coerced."""
    with pytest.raises(ValidationError):
        requested(**more)
