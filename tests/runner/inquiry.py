"""One research run: its question, the model it asks, and the driver in this process or the runner in one of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sandbox_scripts.clock import boottime
from sandbox_scripts.control import Control
from sandbox_scripts.drivers import Run, load
from sandbox_scripts.job import Ending, Job, State
from sandbox_scripts.log import Log
from sandbox_scripts.ship import Shipper
from sandbox_scripts.spool import Spool
from tests.runner.conftest import Bench
from tests.runner.log_server import LogServer
from tests.runner.model_server import ModelServer, Said

QUERY = "What does it cost?"
LIMIT_SECONDS = 60


def step(command: str, *needs: int, **fields: Any) -> dict[str, Any]:
    """A step as a model replies it."""
    told = {"description": "look", "timeout_seconds": 20, "retryable": False, "expected_output": "something"}
    return {"command": command, **told, "needs": list(needs), **fields}


def plan(*steps: dict[str, Any] | str, **fields: Any) -> Said:
    """A reply with a plan."""
    whole = [step(one) if isinstance(one, str) else one for one in steps]
    estimates = {"estimated_duration_seconds": 5, "estimated_cost_microusd": 100, "risk": "low", "fallback": "ask"}
    return Said({"steps": whole, **estimates, **fields})


def answer(text: str = "It costs 42.", *steps: int, source: str | None = None, **fields: Any) -> Said:
    """A reply with an answer that cites these steps, the first of all if none."""
    citations = [{"step": index, "source": source} for index in steps or (0,)]
    return Said({"answer": text, "citations": citations, "facts": [], **fields})


class Inquiry(Bench):
    """A bench with a model; its job is of the kind `research`."""

    def __init__(self, directory: Path, log: LogServer, models: ModelServer) -> None:
        super().__init__(directory, log)
        self.models = models

    def ask(self, query: str = QUERY, provider: str = "openai", **fields: Any) -> Path:
        """Write the job file; `fields` of the input go into it, others into the job."""
        planner = {"provider": provider, "model": "planner-1", "url": self.models.url + "/v1" * (provider == "openai")}
        told = {"query": query, "context": [], "hosts": [], "planner": planner, "budget_microusd": None}
        told |= {name: fields.pop(name) for name in list(fields) if name in told}
        return self.job(**{"kind": "research", "limit_seconds": LIMIT_SECONDS, "input": told, **fields})

    def drive(self, limit_seconds: float = LIMIT_SECONDS) -> Ending:
        """The driver in this process, on the job and on what the spool holds; the log has its end afterwards."""
        job = Job.load(str(self.directory / "job.json"))
        spool = Spool(job.path("spool.ndjson"))
        shipper = Shipper(spool, Log(job), job.path("doorbell"))
        shipper.start(restarted=spool.n > 0)
        ending = load(job.kind)(Run(job, spool, Control(shipper, boottime() + limit_seconds)))
        State(job.path("state")).decide(ending)
        shipper.finish(ending)
        return ending

    def types(self) -> list[str]:
        """The types of the log's events."""
        return [event["type"] for event in self.log.events]

    def prompts(self) -> list[str]:
        """What the model was asked."""
        return [asked.prompt for asked in self.models.asked]
