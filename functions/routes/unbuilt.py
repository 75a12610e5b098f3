"""What the Managed Agents API has and this server has not: each path answers 501 with its name, to those signed in.

A client that meets one of them learns that it is not here, instead of wondering whether its id is wrong.
"""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter

from functions.errors import NotBuilt
from functions.wiring import SignedIn

router = APIRouter(include_in_schema=False)

# By the SDK's resource, `client.beta.<resource>`: paths and their methods.
UNBUILT: dict[str, dict[str, str]] = {
    "deployment_runs": {"/deployment_runs": "GET", "/deployment_runs/{run_id}": "GET"},
    "deployments": {
        "/deployments": "GET POST",
        "/deployments/{deployment_id}": "GET POST",
        "/deployments/{deployment_id}/archive": "POST",
        "/deployments/{deployment_id}/pause": "POST",
        "/deployments/{deployment_id}/run": "POST",
        "/deployments/{deployment_id}/unpause": "POST",
    },
    "dreams": {
        "/dreams": "GET POST",
        "/dreams/{dream_id}": "GET",
        "/dreams/{dream_id}/archive": "POST",
        "/dreams/{dream_id}/cancel": "POST",
    },
    "environments.work": {
        "/environments/{environment_id}/work": "GET",
        "/environments/{environment_id}/work/poll": "GET",
        "/environments/{environment_id}/work/stats": "GET",
        "/environments/{environment_id}/work/{work_id}": "GET POST",
        "/environments/{environment_id}/work/{work_id}/ack": "POST",
        "/environments/{environment_id}/work/{work_id}/heartbeat": "POST",
        "/environments/{environment_id}/work/{work_id}/stop": "POST",
    },
    "files": {"/files": "GET POST", "/files/{file_id}": "GET DELETE", "/files/{file_id}/content": "GET"},
    "memory_stores": {
        "/memory_stores": "GET POST",
        "/memory_stores/{store_id}": "GET POST DELETE",
        "/memory_stores/{store_id}/archive": "POST",
    },
    "memory_stores.memories": {
        "/memory_stores/{store_id}/memories": "GET POST",
        "/memory_stores/{store_id}/memories/{memory_id}": "GET POST DELETE",
    },
    "memory_stores.memory_versions": {
        "/memory_stores/{store_id}/memory_versions": "GET",
        "/memory_stores/{store_id}/memory_versions/{version_id}": "GET",
        "/memory_stores/{store_id}/memory_versions/{version_id}/redact": "POST",
    },
    "organization.webhooks": {
        "/organizations/webhooks": "GET POST",
        "/organizations/webhooks/{webhook_id}": "GET POST DELETE",
        "/organizations/webhooks/{webhook_id}/regenerate_signing_secret": "POST",
    },
    "sessions.resources": {
        "/sessions/{session_id}/resources": "GET POST",
        "/sessions/{session_id}/resources/{resource_id}": "GET POST DELETE",
    },
    "sessions.threads": {
        "/sessions/{session_id}/threads": "GET",
        "/sessions/{session_id}/threads/{thread_id}": "GET",
        "/sessions/{session_id}/threads/{thread_id}/archive": "POST",
    },
    "sessions.threads.events": {
        "/sessions/{session_id}/threads/{thread_id}/events": "GET",
        "/sessions/{session_id}/threads/{thread_id}/stream": "GET",
    },
    "skills": {"/skills": "GET POST", "/skills/{skill_id}": "GET DELETE"},
    "skills.versions": {
        "/skills/{skill_id}/versions": "GET POST",
        "/skills/{skill_id}/versions/{version}": "GET DELETE",
        "/skills/{skill_id}/versions/{version}/content": "GET",
    },
    "tunnels": {
        "/tunnels": "GET POST",
        "/tunnels/{tunnel_id}": "GET",
        "/tunnels/{tunnel_id}/archive": "POST",
        "/tunnels/{tunnel_id}/reveal_token": "POST",
        "/tunnels/{tunnel_id}/rotate_token": "POST",
    },
    "tunnels.certificates": {
        "/tunnels/{tunnel_id}/certificates": "GET POST",
        "/tunnels/{tunnel_id}/certificates/{certificate_id}": "GET",
        "/tunnels/{tunnel_id}/certificates/{certificate_id}/archive": "POST",
    },
    "user_profiles": {
        "/user_profiles": "GET POST",
        "/user_profiles/{profile_id}": "GET POST DELETE",
        "/user_profiles/{profile_id}/enrollment_url": "POST",
    },
    "user_profiles.action_urls": {"/user_profiles/{profile_id}/action_urls": "POST"},
    "vaults": {
        "/vaults": "GET POST",
        "/vaults/{vault_id}": "GET POST DELETE",
        "/vaults/{vault_id}/archive": "POST",
    },
    "vaults.credentials": {
        "/vaults/{vault_id}/credentials": "GET POST",
        "/vaults/{vault_id}/credentials/{credential_id}": "GET POST DELETE",
        "/vaults/{vault_id}/credentials/{credential_id}/archive": "POST",
        "/vaults/{vault_id}/credentials/{credential_id}/mcp_oauth_validate": "POST",
    },
}


def refusing(resource: str) -> Callable[..., Awaitable[None]]:
    """An endpoint that lets nobody in without signing in, and refuses those who have."""

    async def refuse(caller: SignedIn) -> None:  # noqa: ARG001 asked for so that nobody else learns anything
        raise NotBuilt(f"beta.{resource} is not built here")

    return refuse


for _resource, _paths in UNBUILT.items():
    for _path, _methods in _paths.items():
        router.add_api_route(f"/v1{_path}", refusing(_resource), methods=_methods.split())
