"""What a sandbox may reach, and the credentials that are added to its requests outside it.

Entries are what E2B takes: a host, or host:port. A request may name public hosts only; loopback and private places
are the operator's to open, by EGRESS_ALLOW.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from functions.hosts import is_opened
from functions.models import host
from functions.planners import Planner
from functions.settings import Settings, netloc

Row = dict[str, Any]
# GitHub takes a token as the password of this user name.
GIT_USER = "x-access-token"


@dataclass(frozen=True)
class Egress:
    """Where a sandbox may go, and the headers that are added outside it, per entry."""

    allow: tuple[str, ...]
    headers: dict[str, dict[str, str]]

    def as_network(self) -> dict[str, Any]:
        """E2B's network option: everything denied but what is listed."""
        rules = {host: [{"transform": {"headers": headers}}] for host, headers in self.headers.items()}
        return {"allow_out": list(self.allow), "deny_out": lambda context: [context.all_traffic], "rules": rules}


def of_plan(settings: Settings, token: str, hosts: Iterable[str]) -> Egress:
    """For a plan of commands: ours, the operator's hosts, and those that its request names."""
    return Egress(unique(ours(settings), settings.egress_allow, hosts), tokens(settings, token))


def of_conversation(settings: Settings, token: str, session: Row, secrets: Row) -> Egress:
    """For a conversation: ours, the model's host, and what the session's environment and resources open.

    `secrets` is what the session keeps of them: `{"repositories": {url: token}}`. Hosts are listed or closed, whatever
    the environment's row says: people can write theirs past the endpoints.
    """
    networking = (session["environment"] or {}).get("config", {}).get("networking", {})
    repositories = [resource for resource in session["resources"] if resource.get("type") == "github_repository"]
    named = [
        *networking.get("allowed_hosts", ()),
        *(servers(session) if networking.get("allow_mcp_servers", True) else ()),
        *(netloc(resource["url"]) for resource in repositories),
    ]
    packages = settings.package_hosts if networking.get("allow_package_managers") else ()
    model = netloc(settings.anthropic_base_url)
    allow = unique(ours(settings), (model,), settings.egress_allow, permitted(settings, named), packages)
    # Ours last: nobody's repository changes what is sent to Supabase or to the model.
    headers = {**logins(settings, secrets), **tokens(settings, token), **model_key(settings, model)}
    added = {entry: header for entry, header in headers.items() if entry in allow}
    return Egress(allow, added)


def of_research(settings: Settings, token: str, input: Row) -> Egress:
    """For a question: as for a plan, and its planner's host with the key that it takes, and package registries."""
    planner = Planner.of(settings, input["planner"]["model"])
    model = netloc(planner.url)
    allow = unique(ours(settings), (model,), research_hosts(settings, input))
    return Egress(allow, {**tokens(settings, token), **planner_key(settings, planner, model)})


def research_hosts(settings: Settings, input: Row) -> tuple[str, ...]:
    """Where the commands of a plan for a question may go, beside us and its planner."""
    return unique(settings.egress_allow, settings.package_hosts, input["egress"])


def ours(settings: Settings) -> tuple[str, str]:
    """Where every runner reports to."""
    return netloc(settings.supabase_url), netloc(settings.sandstream_url)


def tokens(settings: Settings, token: str) -> dict[str, dict[str, str]]:
    """The run token, on its way to us."""
    if settings.credentials == "env":
        return {}
    return {entry: {"Authorization": f"Bearer {token}"} for entry in ours(settings)}


def model_key(settings: Settings, model: str) -> dict[str, dict[str, str]]:
    """The model key, on its way to the model."""
    if settings.credentials == "env" or settings.anthropic_api_key is None:
        return {}
    return {model: {"x-api-key": settings.anthropic_api_key.get_secret_value()}}


def planner_key(settings: Settings, planner: Planner, host: str) -> dict[str, dict[str, str]]:
    """The planner's key, on its way to it."""
    if settings.credentials == "env" or planner.key is None:
        return {}
    return {host: {planner.header: f"{planner.scheme}{planner.key.get_secret_value()}"}}


def servers(session: Row) -> list[str]:
    """The hosts of the agent's MCP servers."""
    return [netloc(server["url"]) for server in session["agent"].get("mcp_servers", ()) if "url" in server]


def logins(settings: Settings, secrets: Row) -> dict[str, dict[str, str]]:
    """The repositories' tokens as git sends them, per host; E2B knows one rule for a host, so the first one counts."""
    if settings.credentials == "env":
        return {}
    found: dict[str, dict[str, str]] = {}
    for url, token in secrets.get("repositories", {}).items():
        login = base64.b64encode(f"{GIT_USER}:{token}".encode()).decode()
        found.setdefault(netloc(url), {"Authorization": f"Basic {login}"})
    return found


def permitted(settings: Settings, entries: Iterable[str]) -> list[str]:
    """Those that are public, or that the operator has opened."""
    return [entry for entry in entries if is_opened(entry, settings.egress_allow) or is_public(entry)]


def is_public(entry: str) -> bool:
    """Whether a request may name it."""
    try:
        return host(entry) == entry.lower()
    except ValueError:
        return False


def unique(*lists: Iterable[str]) -> tuple[str, ...]:
    """All entries in order, each once."""
    return tuple(dict.fromkeys(entry for entries in lists for entry in entries))
