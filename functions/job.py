"""The job file: all that a runner is told. `sandbox_scripts/job.py` reads it."""

from dataclasses import dataclass
from typing import Any

from functions.egress import research_hosts
from functions.planners import Planner
from functions.settings import Settings
from sandbox_scripts.job import VERSION

HOME = "/home/user/.sandstream"
OUTPUT_LIMIT_BYTES = 1_048_576
COMMANDS_DIRECTORY = "~"  # of the user that the template runs commands as
CONVERSATION_DIRECTORY = "~/workspace"
# A turn that is told to stop has so long to do it by itself.
INTERRUPT_SECONDS = 2

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What a sandbox is told to do: `content` becomes the job file, `environment` is the runner's alone."""

    run_id: str
    content: Row
    environment: dict[str, str]

    @property
    def folder(self) -> str:
        """Where the job, the spool and the doorbell lie."""
        return folder(self.run_id)


def folder(run_id: str) -> str:
    """Where a run keeps everything, in its sandbox."""
    return f"{HOME}/{run_id}"


def of_plan(settings: Settings, run: Row, token: str, input: Row) -> Job:
    """A plan of commands."""
    content = {**base(settings, run), "working_directory": COMMANDS_DIRECTORY, "input": input}
    return Job(run["id"], content, environment(settings, token))


def of_research(settings: Settings, run: Row, token: str, input: Row) -> Job:
    """A question. Its planner's address is the deployment's, whatever the run's row says."""
    planner = Planner.of(settings, input["planner"]["model"])
    told = {name: input[name] for name in ("query", "context", "budget_microusd")}
    content = {
        **base(settings, run),
        "working_directory": COMMANDS_DIRECTORY,
        "input": {**told, "hosts": list(research_hosts(settings, input)), "planner": planner.as_input()},
    }
    return Job(run["id"], content, research_environment(settings, token, planner))


def of_conversation(settings: Settings, run: Row, token: str, session: Row, *, is_fresh: bool) -> Job:
    """A turn of Claude. `is_fresh`: the session had a sandbox, and this is another."""
    content = {
        **base(settings, run),
        "working_directory": CONVERSATION_DIRECTORY,
        "input": conversation_input(settings, session, is_fresh=is_fresh),
    }
    return Job(run["id"], content, conversation_environment(settings, token))


def again(settings: Settings, content: Row, epoch: int, token: str) -> Job:
    """A job as it was, for the next runner of the same run."""
    return Job(content["run_id"], {**content, "epoch": epoch}, environment_of(settings, content, token))


def environment_of(settings: Settings, content: Row, token: str) -> dict[str, str]:
    """What the runner of a job holds that is not in the job."""
    if content["kind"] == "claude":
        return conversation_environment(settings, token)
    if content["kind"] == "research":
        planner = Planner.of(settings, content["input"]["planner"]["model"])
        return research_environment(settings, token, planner)
    return environment(settings, token)


def conversation_input(settings: Settings, session: Row, *, is_fresh: bool) -> Row:
    """What the driver `claude` reads."""
    repositories = [resource for resource in session["resources"] if resource.get("type") == "github_repository"]
    return {
        "after_seq": session["taken_seq"],
        "resume": session["has_transcript"],
        "fresh": is_fresh,
        "lost_after_seq": session["lost_after_seq"],
        "agent": session["agent"],
        "resources": [{name: each.get(name) for name in ("url", "mount_path", "checkout")} for each in repositories],
        "model_url": settings.anthropic_base_url,
        "budget_microusd": left(session),
        "limits": {
            "turn_seconds": settings.turn_seconds,
            "confirmation_seconds": settings.confirmation_seconds,
            "exit_seconds": settings.exit_seconds,
            "silent_seconds": settings.silent_seconds,
            "interrupt_seconds": INTERRUPT_SECONDS,
        },
    }


def left(session: Row) -> int | None:
    """What is left of the session's budget, in millionths of a dollar; None without one."""
    budget: int | None = session["budget_microusd"]
    return None if budget is None else max(0, budget - int(session["cost_microusd"]))


def base(settings: Settings, run: Row) -> Row:
    """What every job has."""
    return {
        "version": VERSION,
        "run_id": run["id"],
        "session_id": run["session_id"],
        "epoch": run["epoch"],
        "kind": run["kind"],
        "limit_seconds": run["limit_seconds"],
        "supabase_url": settings.supabase_url,
        "publishable_key": settings.supabase_publishable_key,
        "ended_url": f"{settings.sandstream_url}/v1/runs/{run['id']}/ended",
        "credentials": settings.credentials,
        "output_limit_bytes": OUTPUT_LIMIT_BYTES,
        "redact": [],
    }


def environment(settings: Settings, token: str) -> dict[str, str]:
    """The run token, where it cannot be added outside the sandbox."""
    return {"SANDSTREAM_RUN_TOKEN": token} if settings.credentials == "env" else {}


def conversation_environment(settings: Settings, token: str) -> dict[str, str]:
    """The same, and the model key."""
    secrets = environment(settings, token)
    if secrets and settings.anthropic_api_key is not None:
        secrets["ANTHROPIC_API_KEY"] = settings.anthropic_api_key.get_secret_value()
    return secrets


def research_environment(settings: Settings, token: str, planner: Planner) -> dict[str, str]:
    """The same with the planner's key."""
    secrets = environment(settings, token)
    if secrets and planner.key is not None:
        secrets[planner.variable] = planner.key.get_secret_value()
    return secrets
