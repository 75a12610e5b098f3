"""Repositories of a session: what may be cloned, where to, and where the token goes."""

from typing import Any

import pytest
from anthropic.types.beta.sessions import BetaManagedAgentsGitHubRepositoryResource
from pydantic import TypeAdapter, ValidationError

from functions import repositories
from functions.errors import InvalidRequest, NotBuilt
from functions.models import Request
from functions.repositories import Resources

Json = dict[str, Any]
URL = "https://github.com/example/todo"


class Body(Request):
    """The field of a session's body."""

    resources: Resources = ()


def repository(**more: Any) -> Json:
    """A public repository."""
    return {"type": "github_repository", "url": URL, **more}


def parsed(*resources: Json) -> tuple[Any, ...]:
    """The resources of a body."""
    return Body.model_validate({"resources": list(resources)}).resources


def kept(*resources: Json, opened: tuple[str, ...] = ()) -> list[Json]:
    """What is kept of them."""
    return repositories.kept(parsed(*resources), opened)


def test_what_is_kept_is_of_the_sdks_type() -> None:
    """With every field, and ids of their own."""
    found = kept(repository(), repository(mount_path="/srv/todo", checkout={"type": "commit", "sha": "0" * 40}))
    for resource in found:
        assert set(BetaManagedAgentsGitHubRepositoryResource.model_fields) == set(resource)
        TypeAdapter(BetaManagedAgentsGitHubRepositoryResource).validate_python(resource)
    assert found[0]["id"] != found[1]["id"]
    assert found[1]["checkout"] == {"type": "commit", "sha": "0" * 40}


@pytest.mark.parametrize(
    ("url", "path"),
    [
        (URL, "~/workspace/todo"),
        (f"{URL}.git", "~/workspace/todo"),
        (f"{URL}/", "~/workspace/todo"),
        ("https://git.example.com/a/b/c.d.git", "~/workspace/c.d"),
    ],
)
def test_a_repository_lies_in_a_folder_of_its_name(url: str, path: str) -> None:
    """Below the working directory, unless the request says where."""
    assert kept(repository(url=url))[0]["mount_path"] == path


@pytest.mark.parametrize("path", ["/srv/a", "~/a", "~/work space/é", "/a/b.git"])
def test_paths_that_stay_where_they_say(path: str) -> None:
    """Absolute, or in the home directory."""
    assert kept(repository(mount_path=path))[0]["mount_path"] == path


@pytest.mark.parametrize(
    "path", ["", "a", "./a", "../a", "/", "~", "~/", "~root/a", "/a/../b", "/a/./b", "/a//b", "/a/", "/a\nb", "/a\x00"]
)
def test_paths_that_do_not(path: str) -> None:
    """No way out, no other user's home, nothing that is written in two ways."""
    with pytest.raises(ValidationError):
        parsed(repository(mount_path=path))


@pytest.mark.parametrize("name", ["main", "feature/a-b", "v1.2", "é", "@"])
def test_names_of_branches(name: str) -> None:
    """What git has as a name."""
    checkout = {"type": "branch", "name": name}
    assert kept(repository(checkout=checkout))[0]["checkout"] == checkout


@pytest.mark.parametrize(
    "name",
    ["", "-b", "--upload-pack=x", "/a", "a/", "a..b", "a b", "a~1", "a^", "a:b", "a\n", "a.lock", "a.", "x" * 256],
)
def test_what_is_no_branch(name: str) -> None:
    """Neither an option nor a range nor a refspec."""
    with pytest.raises(ValidationError):
        parsed(repository(checkout={"type": "branch", "name": name}))


@pytest.mark.parametrize("sha", ["", "abc", "0" * 39, "0" * 41, "G" * 40, "HEAD", "0" * 40 + "\n"])
def test_what_is_no_commit(sha: str) -> None:
    """A whole hash, and nothing that means another commit tomorrow."""
    with pytest.raises(ValidationError):
        parsed(repository(checkout={"type": "commit", "sha": sha}))


@pytest.mark.parametrize(
    "url", ["http://github.com/a/b", "https://github.com", "https://github.com/", "https://github.com/a/b?x=1",
            "https://github.com/a/b#c", "https://github.com/a/..", "https://10.0.0.1/a/b", "git@github.com:a/b.git"]
)  # fmt: skip
def test_what_is_no_repository(url: str) -> None:
    """A public place over https, with a name that a folder can have."""
    with pytest.raises(InvalidRequest) as refused:
        kept(repository(url=url))
    assert refused.value.param == "resources.0.url"


def test_the_operators_own_git_server() -> None:
    """EGRESS_ALLOW opens it, without https too."""
    url = "http://git.internal:8080/a/b.git"
    assert kept(repository(url=url), opened=("git.internal:8080",))[0]["url"] == url


def test_tokens_are_kept_apart() -> None:
    """By their repository's URL; what anyone reads has none, and neither has what a log line would show."""
    token = "ghp_canary-not-a-real-token"
    resources = parsed(repository(authorization_token=token), repository(url=f"{URL}2"))
    assert repositories.secrets(resources) == {"repositories": {URL: token}}
    assert token not in repr(repositories.kept(resources, ()))
    assert token not in repr(resources)
    assert repositories.secrets(parsed(repository())) == {}


def test_a_host_has_one_token() -> None:
    """It is added to all that goes to the host: with two, one repository would be read with the other's."""
    two = [repository(authorization_token="a"), repository(url="https://github.com/b/c", authorization_token="b")]
    with pytest.raises(InvalidRequest):
        repositories.secrets(parsed(*two))
    same = [repository(authorization_token="a"), repository(url="https://github.com/b/c", authorization_token="a")]
    assert len(repositories.secrets(parsed(*same))["repositories"]) == 2
    elsewhere = repository(url="https://git.example.com/b/c", authorization_token="b")
    assert len(repositories.secrets(parsed(two[0], elsewhere))["repositories"]) == 2


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX-Other: 1", "é", "x" * 4097])
def test_what_is_no_token(token: str) -> None:
    """It becomes a header."""
    with pytest.raises(ValidationError):
        parsed(repository(authorization_token=token))


def test_a_place_is_taken_once() -> None:
    """Two repositories never lie in one folder, by default or by request."""
    for second in (repository(url="https://github.com/other/todo"), repository(mount_path="~/workspace/todo")):
        with pytest.raises(InvalidRequest):
            kept(repository(), second)


@pytest.mark.parametrize("type", ["file", "memory_store"])
def test_other_resources_are_not_built(type: str) -> None:
    """Whatever they hold, they are refused by their name."""
    with pytest.raises(NotBuilt, match=type):
        parsed({"type": type, "file_id": "x", "memory_store_id": "y"})


@pytest.mark.parametrize("resource", [{"type": "s3"}, {}, repository(depth=1), repository(url=None), "x"])
def test_what_is_no_resource_is_refused(resource: Any) -> None:
    """Nothing unknown and nothing coerced."""
    with pytest.raises(ValidationError):
        parsed(resource)
