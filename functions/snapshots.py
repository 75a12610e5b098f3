"""What a session pins when it is made: its agent at one version, and its environment, as they are now."""

from functions import agents, environments
from functions.conversations import AgentOverrides, AgentReference
from functions.store import UserStore
from functions.tools import Row


async def of_agent(store: UserStore, wanted: AgentReference | AgentOverrides, opened: tuple[str, ...]) -> Row:
    """The agent's snapshot, with the request's overrides. Raises NotFound, InvalidRequest, StoreUnavailable.

    `opened` is the operator's EGRESS_ALLOW.
    """
    row = await store.agent(wanted.id, wanted.version)
    return agents.snapshot(row["id"], row["version"], wanted.applied(row["config"], opened))


async def of_environment(store: UserStore, id: str) -> Row:
    """The environment's snapshot. Raises NotFound, StoreUnavailable."""
    return environments.snapshot(await store.environment(id))
