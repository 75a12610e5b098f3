"""What a sandbox may reach, and which credentials are added to what it sends there."""

import base64
from typing import Any

import pytest

from functions.egress import Egress, of_conversation, of_plan, of_research
from functions.settings import Settings

Json = dict[str, Any]
TOKEN = "the.run.token"
REPOSITORY = "https://github.test/acme/site.git"


@pytest.fixture
def configured(settings: Settings) -> Settings:
    """With a model key, a gateway before the model, and some hosts that the operator opened."""
    return with_settings(
        settings,
        anthropic_api_key="sk-ant-canary",
        anthropic_base_url="https://models.test:8443/",
        egress_allow="operators.test,127.0.0.1:9000",
        package_hosts="packages.test",
    )


def with_settings(settings: Settings, **changes: Any) -> Settings:
    return Settings(**{**settings.model_dump(exclude_unset=True), **changes})


def session(
    networking: Json | None = None, servers: list[str] | None = None, repositories: tuple[str, ...] = ()
) -> Json:
    limited = {"type": "limited", "allow_mcp_servers": True, "allow_package_managers": False, "allowed_hosts": []}
    return {
        "environment": {"config": {"type": "cloud", "networking": {**limited, **(networking or {})}}},
        "agent": {"mcp_servers": [{"type": "url", "name": "x", "url": url} for url in servers or []]},
        "resources": [{"type": "github_repository", "url": url} for url in repositories],
    }


def basic(token: str) -> Json:
    return {"Authorization": "Basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()}


def test_a_plan_reaches_us_the_operators_hosts_and_its_own(configured: Settings) -> None:
    """Its token goes to us only."""
    found = of_plan(configured, TOKEN, ["example.test"])
    assert found.allow == ("supabase.test", "endpoints.test", "operators.test", "127.0.0.1:9000", "example.test")
    assert found.headers == {
        "supabase.test": {"Authorization": f"Bearer {TOKEN}"},
        "endpoints.test": {"Authorization": f"Bearer {TOKEN}"},
    }


def test_a_conversation_reaches_the_model_too(configured: Settings) -> None:
    """With the model's key, which is added there and nowhere else."""
    found = of_conversation(configured, TOKEN, session(), {})
    assert found.allow == ("supabase.test", "endpoints.test", "models.test:8443", "operators.test", "127.0.0.1:9000")
    assert found.headers["models.test:8443"] == {"x-api-key": "sk-ant-canary"}
    assert [entry for entry, added in found.headers.items() if "x-api-key" in added] == ["models.test:8443"]


def test_what_the_environment_the_agent_and_the_resources_open(configured: Settings) -> None:
    """Hosts of the environment, of MCP servers and of repositories; a private repository's token goes to its host."""
    wide = session({"allowed_hosts": ["docs.test", "*.cdn.test"]}, ["https://tools.test/mcp"], (REPOSITORY,))
    found = of_conversation(configured, TOKEN, wide, {"repositories": {REPOSITORY: "ghp_canary"}})
    assert {"docs.test", "*.cdn.test", "tools.test", "github.test"} <= set(found.allow)
    assert found.headers["github.test"] == basic("ghp_canary")


def test_mcp_servers_may_be_kept_out(configured: Settings) -> None:
    """As the environment says."""
    found = of_conversation(configured, TOKEN, session({"allow_mcp_servers": False}, ["https://tools.test/mcp"]), {})
    assert "tools.test" not in found.allow


def test_package_registries_are_the_operators_list(configured: Settings) -> None:
    """Opened where the environment allows package managers."""
    assert "packages.test" not in of_conversation(configured, TOKEN, session(), {}).allow
    assert "packages.test" in of_conversation(configured, TOKEN, session({"allow_package_managers": True}), {}).allow


@pytest.mark.parametrize(
    "place", ["127.0.0.1:5432", "localhost", "10.0.0.1", "169.254.169.254", "2130706433", "a..b", ""]
)
def test_private_places_are_not_a_sessions_to_open(place: str, configured: Settings) -> None:
    """By host, by MCP server or by repository; the operator's list may hold them."""
    url = f"http://{place}/x"
    found = of_conversation(configured, TOKEN, session({"allowed_hosts": [place]}, [url], (url,)), {})
    assert place not in found.allow
    opened = with_settings(configured, egress_allow=place)
    if place:
        assert place in of_conversation(opened, TOKEN, session(servers=[url]), {}).allow


def test_nobodys_repository_changes_what_we_or_the_model_are_sent(configured: Settings) -> None:
    """A repository at our own address or at the model's takes its credentials nowhere."""
    urls = ("https://supabase.test/x.git", "https://models.test:8443/x.git")
    secrets = {"repositories": dict.fromkeys(urls, "ghp_canary")}
    found = of_conversation(configured, TOKEN, session(repositories=urls), secrets)
    assert found.headers["supabase.test"] == {"Authorization": f"Bearer {TOKEN}"}
    assert found.headers["models.test:8443"] == {"x-api-key": "sk-ant-canary"}


def test_a_token_for_a_host_that_is_not_reached_is_not_handed_out(configured: Settings) -> None:
    """A rule's host is one that is allowed: E2B refuses others."""
    private = "http://10.0.0.1/x.git"
    found = of_conversation(configured, TOKEN, session(repositories=(private,)), {"repositories": {private: "ghp"}})
    assert set(found.headers) <= set(found.allow)


def test_without_egress_rules_nothing_is_added(configured: Settings) -> None:
    """CREDENTIALS=env: what a sandbox may use it holds itself."""
    plain = with_settings(configured, credentials="env")
    secrets = {"repositories": {REPOSITORY: "ghp_canary"}}
    assert of_conversation(plain, TOKEN, session(repositories=(REPOSITORY,)), secrets).headers == {}
    assert of_plan(plain, TOKEN, []).headers == {}


def test_closed_but_for_what_is_listed() -> None:
    """E2B's form: all denied, the list allowed, headers per host."""
    network = Egress(("a.test",), {"a.test": {"X": "y"}}).as_network()
    assert network["allow_out"] == ["a.test"]
    assert network["deny_out"](type("Context", (), {"all_traffic": "0.0.0.0/0"})) == ["0.0.0.0/0"]
    assert network["rules"] == {"a.test": [{"transform": {"headers": {"X": "y"}}}]}


def test_no_environment_is_open(configured: Settings) -> None:
    """Not even one that was written past the endpoints, which refuse it."""
    found = of_conversation(configured, TOKEN, session({"type": "unrestricted", "allowed_hosts": ["a.test"]}), {})
    assert "a.test" in found.allow
    assert found.as_network()["deny_out"](type("Context", (), {"all_traffic": "0.0.0.0/0"})) == ["0.0.0.0/0"]


def question(model: str, *hosts: str) -> Json:
    return {"planner": {"model": model}, "egress": list(hosts)}


def test_a_question_reaches_its_planner_with_the_key_that_it_takes(configured: Settings) -> None:
    """And what the request names, the operator's hosts and package registries; the other provider is closed."""
    both = with_settings(configured, openai_api_key="sk-openai-canary", openai_base_url="https://planner.test/v1")
    found = of_research(both, TOKEN, question("any-model", "example.test"))
    opened = ("operators.test", "127.0.0.1:9000", "packages.test", "example.test")
    assert found.allow == ("supabase.test", "endpoints.test", "planner.test", *opened)
    assert found.headers["planner.test"] == {"Authorization": "Bearer sk-openai-canary"}
    assert found.headers["supabase.test"] == {"Authorization": f"Bearer {TOKEN}"}
    assert "sk-ant-canary" not in str(found)


def test_claude_plans_through_its_own_host(configured: Settings) -> None:
    """With its own header."""
    found = of_research(configured, TOKEN, question("claude-opus-5"))
    assert found.headers["models.test:8443"] == {"x-api-key": "sk-ant-canary"}


def test_no_key_travels_outside_where_the_sandbox_holds_it(configured: Settings) -> None:
    """CREDENTIALS=env: the rules add nothing."""
    plain = with_settings(configured, credentials="env")
    assert of_research(plain, TOKEN, question("claude-opus-5")).headers == {}
