"""`modal deploy`, the real command against a servicer of our own: what Modal is told, and whether it would run."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from modal_proto import api_pb2

from functions import template
from functions.app import REQUIRED_KEYS, SECRET
from functions.bundle import build
from functions.settings import Settings
from tests.functions.conftest import SigningKey
from tests.functions.modal_world import ROOT, ModalWorld, modal

DEPLOY = ("deploy", "-m", "functions.app")
# Functions that Modal calls by the clock, and how often.
SCHEDULES: dict[str, str] = {"sweep": "period { seconds: 30 }"}
# What a container does first: everything it imports of ours must come from what was mounted.
START = """
import sys
from functions import app, bundle
paths = app.web.local().openapi()["paths"]
houses = {"functions", "sandbox_scripts", "sandstream"}
ours = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] in houses}
print(bundle.build().name, len(paths), [name for name, file in ours.items() if not file.startswith(sys.argv[1])])
"""


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> ModalWorld:
    """One deploy, which succeeded."""
    deployed = ModalWorld()
    code, output = await modal(deployed, tmp_path_factory.mktemp("home"), *DEPLOY)
    assert code == 0, output
    return deployed


@pytest.fixture
def web(world: ModalWorld) -> Any:
    """The endpoints, as they were registered."""
    return world.functions["web"]


def layers(world: ModalWorld, function: Any) -> list[str]:
    """The lines that build a function's image."""
    return [line for layer in world.image(function.image_id) for line in layer.dockerfile_commands]


def test_the_app_is_published_by_its_name(world: ModalWorld) -> None:
    """What is published is the app `sandstream` with all that was registered, and nothing else."""
    (published,) = world.published
    assert published.name == "sandstream"
    assert dict(published.function_ids) == {name: f"fu-{name}" for name in world.functions}
    assert world.functions.keys() == {"web", *SCHEDULES}
    assert not published.class_ids


def test_only_these_have_a_schedule(world: ModalWorld) -> None:
    """Nothing runs by the clock but what is listed here."""
    found = {name: function.schedule for name, function in world.functions.items() if function.HasField("schedule")}
    assert {name: " ".join(str(schedule).split()) for name, schedule in found.items()} == SCHEDULES


def test_the_endpoints_are_an_asgi_app(web: Any) -> None:
    """Modal serves what `web` returns, at the address that the command prints."""
    assert web.module_name == "functions.app"
    assert web.webhook_config.type == api_pb2.WEBHOOK_TYPE_ASGI_APP
    assert not web.webhook_config.requires_proxy_auth


def test_one_container_is_always_there_and_takes_many_requests(web: Any) -> None:
    """No submit waits for a cold start, an SSE stream may last an hour, and waiting requests share a container."""
    assert web.autoscaler_settings.min_containers == 1
    assert web.max_concurrent_inputs == 100
    assert web.timeout_secs == 3600


def test_a_container_that_does_not_start_is_given_up_early(web: Any) -> None:
    """The time that a start may take is its own: an SSE stream's hour would hide a broken deploy for as long."""
    assert web.startup_timeout_secs == 120


def test_a_new_container_starts_from_a_snapshot_of_its_imports(web: Any) -> None:
    """The snapshot is taken when the module is imported: by then all that the endpoints import must be there."""
    assert web.checkpointing_enabled
    code = f"import sys; import {web.module_name}; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={}, capture_output=True, text=True, check=True)
    assert {"fastapi", "e2b", "postgrest", "functions.api"} <= set(json.loads(done.stdout.replace("'", '"')))


def test_the_secret_must_have_what_has_no_default(world: ModalWorld, web: Any) -> None:
    """Modal is asked for the one secret and refuses the deploy when a key of it is missing."""
    (secret,) = world.secrets
    assert (secret.deployment_name, list(secret.required_keys)) == (SECRET, REQUIRED_KEYS)
    assert list(web.secret_ids) == ["st-0"]


def test_every_function_has_the_same_image_and_secret(world: ModalWorld, web: Any) -> None:
    """What runs by the clock is given what the endpoints are given."""
    for function in world.functions.values():
        assert (function.image_id, list(function.secret_ids)) == (web.image_id, list(web.secret_ids))
        assert set(world.files(function)) == set(world.files(web))


def test_the_image_has_the_templates_python(world: ModalWorld, web: Any) -> None:
    """The runner carries bytecode: endpoints of another Python would look for it by another name."""
    version = ".".join(map(str, template.PYTHON))
    assert re.match(rf"FROM python:{re.escape(version)}\.\d+-slim", layers(world, web)[0])


def test_the_image_has_our_pins_and_checks_their_hashes(world: ModalWorld, web: Any) -> None:
    """What is installed is what was tested, file for file; the installer too is one version."""
    built = layers(world, web)
    (install,) = [line for line in built if "pip install" in line and "requirements" in line]
    assert "--require-hashes" in install
    assert not re.search(r"index-url|find-links|prerelease", install)
    (installer,) = [line for line in built if line.startswith("COPY --from")]
    assert re.search(r"uv:\d+\.\d+\.\d+ ", installer)
    (given,) = [file.data for layer in world.image(web.image_id) for file in layer.context_files]
    assert given == (ROOT / "functions/requirements.txt").read_bytes()


def test_the_sources_are_the_three_houses_that_the_endpoints_use(world: ModalWorld, web: Any) -> None:
    """Every module of theirs is mounted as it is here, and neither the local stack nor a test is."""
    mounted = {path.removeprefix("/root/"): content for path, content in world.files(web).items()}
    assert {path.split("/")[0] for path in mounted} == {"functions", "sandbox_scripts", "sandstream"}
    here = {path.relative_to(ROOT).as_posix(): path for house in ("functions", "sandbox_scripts", "sandstream")
            for path in (ROOT / house).rglob("*.py")}  # fmt: skip
    assert here.keys() <= mounted.keys()
    assert {name for name, path in here.items() if mounted[name] != path.read_bytes()} == set()


@pytest.mark.parametrize("name", [path.name for path in (ROOT / "functions").glob("*.json")])
def test_the_lists_are_where_the_endpoints_read_them(name: str, world: ModalWorld, web: Any) -> None:
    """Modal takes modules only, unless it is told: without the prices no first request would be answered."""
    mounted = world.files(web)
    assert mounted[f"/root/functions/{name}"] == (ROOT / "functions" / name).read_bytes()


def test_no_setting_travels_with_the_sources(world: ModalWorld, web: Any) -> None:
    """A `.env` beside the sources stays where it is: settings come by the secret alone."""
    assert {Path(path).suffix for path in world.files(web)} <= {".py", ".json", ".txt", ".in", ".toml"}


def test_what_is_mounted_serves(world: ModalWorld, web: Any, settings: Settings, tmp_path: Path) -> None:
    """With the mounted files alone the app starts, and its runner has the name that a template of this tree has."""
    world.write(web, tmp_path)
    root = tmp_path / "root"
    done = subprocess.run(
        [sys.executable, "-c", START, str(root)],
        cwd=root, env=as_environment(settings), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    name, paths, strays = done.stdout.strip().split(" ", 2)
    assert (name, strays) == (build().name, "[]")
    assert int(paths) > 10


async def test_where_containers_run_is_said_at_the_deploy(tmp_path: Path) -> None:
    """SANDSTREAM_REGION puts the endpoints beside the database; without it Modal chooses."""
    world = ModalWorld()
    code, output = await modal(world, tmp_path, *DEPLOY, SANDSTREAM_REGION="eu-west")
    assert code == 0, output
    assert {name: list(each.scheduler_placement.regions) for name, each in world.functions.items()} == {
        name: ["eu-west"] for name in world.functions
    }


def test_without_a_region_modal_chooses(web: Any) -> None:
    """Pinning a region costs extra at Modal, so it is not done unasked."""
    assert list(web.scheduler_placement.regions) == []


async def test_the_secret_is_made_from_the_dotenv_file(tmp_path: Path, signing_key: SigningKey) -> None:
    """`.env.example`, filled in and stored as the README says, gives Modal what Settings can read; the JWK whole."""
    filled = (ROOT / ".env.example").read_text().split("# --- The command line")[0]
    filled = re.sub(r"^RUN_TOKEN_KEY=.*$", lambda _: f"RUN_TOKEN_KEY={signing_key.jwk()}", filled, flags=re.MULTILINE)
    (tmp_path / ".env").write_text(filled)
    world = ModalWorld()
    code, output = await modal(world, tmp_path, "secret", "create", SECRET, "--from-dotenv", str(tmp_path / ".env"))
    assert code == 0, output
    (stored,) = world.secrets
    assert set(REQUIRED_KEYS) <= stored.env_dict.keys()
    assert json.loads(stored.env_dict["RUN_TOKEN_KEY"]) == json.loads(signing_key.jwk())


def as_environment(settings: Settings) -> dict[str, str]:
    """The settings as a container's environment gives them."""
    values = {name: getattr(settings, name) for name, field in Settings.model_fields.items() if field.is_required()}
    values["run_token_key"] = settings.run_token_key
    return {name.upper(): getattr(value, "get_secret_value", lambda v=value: v)() for name, value in values.items()}
