"""The repositories that a session begins with: `resources` of the type `github_repository`."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import uuid4

from pydantic import AfterValidator, Field, field_validator

from functions.errors import InvalidRequest, NotBuilt
from functions.hosts import open_url
from functions.models import Request, Text
from functions.settings import netloc
from functions.tools import Row, once

MAX_RESOURCES = 20
MAX_PATH_LENGTH = 1024
# What git refuses in a name, and what a shell or git itself could take for something else.
NOT_IN_BRANCH = set(" ~^:?*[\\\x7f")


def branch_name(name: str) -> str:
    """A name that git takes (git-check-ref-format), and never for an option."""
    refused = name.startswith(("-", "/")) or ".." in name or name.endswith(("/", ".lock", "."))
    if refused or any(letter in NOT_IN_BRANCH or letter < " " for letter in name):
        raise ValueError("must be the name of a branch")
    return name


def lasting_path(path: str) -> str:
    """An absolute path, or one that begins with `~/`, and that stays where it says."""
    parts = path.removeprefix("~").split("/")
    if not path.startswith(("/", "~/")) or not all(parts[1:]) or {".", ".."} & set(parts) or not path.isprintable():
        raise ValueError("must be an absolute path, or one that begins with ~/, without . and ..")
    return path


class Branch(Request):
    """The newest commit of a branch."""

    type: Literal["branch"]
    name: Annotated[Text, Field(min_length=1, max_length=255), AfterValidator(branch_name)]


class Commit(Request):
    """One commit, by its whole hash."""

    type: Literal["commit"]
    sha: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]


class Repository(Request):
    """A repository to clone. The token becomes a header outside the sandbox, and is never shown."""

    type: Literal["github_repository"]
    url: Text
    authorization_token: Annotated[str | None, Field(pattern=r"^[!-~]{1,4096}$", repr=False)] = None
    checkout: Annotated[Branch | Commit | None, Field(discriminator="type")] = None
    mount_path: Annotated[Text, Field(max_length=MAX_PATH_LENGTH), AfterValidator(lasting_path)] | None = None

    def kept(self) -> Row:
        """As it is kept, in the SDK's shape (`BetaManagedAgentsGitHubRepositoryResource`)."""
        now = datetime.now(UTC).isoformat()
        return {
            "id": f"sesrsc_{uuid4().hex}",
            "type": self.type,
            "url": self.url,
            "mount_path": self.path,
            "checkout": self.checkout.model_dump() if self.checkout else None,
            "created_at": now,
            "updated_at": now,
        }

    @property
    def path(self) -> str:
        """Where it is cloned to: by default a folder of its name in the working directory."""
        name = urlsplit(self.url).path.rstrip("/").rpartition("/")[2].removesuffix(".git")
        return self.mount_path or f"~/workspace/{name}"


class OtherResource(Request, extra="allow"):
    """What else may be mounted in Managed Agents."""

    type: Literal["file", "memory_store"]

    @field_validator("type")
    @classmethod
    def _unbuilt(cls, type: str) -> str:
        raise NotBuilt(f"resources of the type {type} are not built here")


Resource = Annotated[Repository | OtherResource, Field(discriminator="type")]
Resources = Annotated[tuple[Resource, ...], Field(strict=False, max_length=MAX_RESOURCES)]


def kept(resources: tuple[Any, ...], opened: tuple[str, ...]) -> list[Row]:
    """The resources as they are kept, without their tokens. Raises InvalidRequest for those that cannot be cloned.

    `opened` is the operator's EGRESS_ALLOW.
    """
    for index, resource in enumerate(resources):
        check(resource, opened, f"resources.{index}")
    once((resource.path for resource in resources), "resources")
    return [resource.kept() for resource in resources]


def check(resource: Repository, opened: tuple[str, ...], param: str) -> None:
    """Raises InvalidRequest unless the URL may be reached and names a repository that a folder can be called after."""
    parts = urlsplit(open_url(resource.url, opened, f"{param}.url"))
    if parts.query or parts.fragment:
        raise InvalidRequest("must be the URL of a repository", param=f"{param}.url")
    try:
        lasting_path(resource.path)
    except ValueError as error:
        raise InvalidRequest("must end in the repository's name", param=f"{param}.url") from error


def secrets(resources: tuple[Any, ...]) -> Row:
    """`{"repositories": {url: token}}`, or nothing. Raises InvalidRequest for two tokens at one host.

    The token is added to what the sandbox sends to that host, so that a host has one.
    """
    tokens = {resource.url: resource.authorization_token for resource in resources if resource.authorization_token}
    by_host: dict[str, str] = {}
    for url, token in tokens.items():
        if by_host.setdefault(netloc(url), token) != token:
            raise InvalidRequest("the repositories of one host share one token", param="resources")
    return {"repositories": tokens} if tokens else {}
