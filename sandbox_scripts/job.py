"""The job file: what to run, where to report, and the directory in which this run keeps everything.

Beside `job.json` the runner keeps `lock`, `spool.ndjson`, `state` and `children/`; functions touches `doorbell`.
"""

from __future__ import annotations

import fcntl
import os
import time

from .c_json import dumps, loads
from .clock import boottime
from .errors import JobInvalid, RunnerBusy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

VERSION = 1
# The endpoints give the key of the model that the run asks; whatever else is there is none of its business.
MODEL_KEYS = {"anthropic": "ANTHROPIC_API_KEY", "openai": "OPENAI_API_KEY"}
DEFAULT_GRACE_SECONDS = 3.0
# Longer than a heartbeat and a request's deadline together: by then the older epoch has been told to go.
TAKEOVER_SECONDS = 30.0
_LOCK_POLL_SECONDS = 0.05


class Job:
    """The parsed job file."""

    def __init__(self, raw: dict[str, Any], directory: str) -> None:
        """Raise JobInvalid when a field is missing or of the wrong kind."""
        try:
            self.run_id = str(raw["run_id"])
            self.session_id = str(raw["session_id"])
            self.epoch = int(raw["epoch"])
            self.kind = str(raw["kind"])
            self.limit_seconds = float(raw["limit_seconds"])
            self.supabase_url = str(raw["supabase_url"]).rstrip("/")
            self.publishable_key = str(raw["publishable_key"])
            self.ended_url = str(raw.get("ended_url") or "")
            self.credentials = str(raw["credentials"])
            self.output_limit_bytes = int(raw["output_limit_bytes"])
            self.working_directory = os.path.expanduser(str(raw["working_directory"]))
            self.redact = [str(value) for value in raw.get("redact") or ()]
            self.grace_seconds = float(raw.get("grace_seconds", DEFAULT_GRACE_SECONDS))
            self.input: dict[str, Any] = dict(raw["input"])
        except (KeyError, TypeError, ValueError) as error:
            raise JobInvalid(f"job file: {type(error).__name__}: {error}") from error
        if raw.get("version") != VERSION:
            raise JobInvalid(f"job file: version {raw.get('version')!r}, this runner reads {VERSION}")
        self.directory = directory
        self.token = self._take_token()
        self.model_key = self._take_model_key()

    @classmethod
    def load(cls, path: str) -> Job:
        """Read a job file. Raise JobInvalid when it cannot be used."""
        try:
            with open(path, encoding="utf-8") as file:
                raw = loads(file.read())
        except (OSError, ValueError) as error:
            raise JobInvalid(f"job file: {error}") from error
        if not isinstance(raw, dict):
            raise JobInvalid("job file: not an object")
        return cls(raw, os.path.dirname(os.path.abspath(path)))

    def path(self, name: str) -> str:
        """A file of this run."""
        return os.path.join(self.directory, name)

    def _take_token(self) -> str:
        """The bearer; taken out of the environment, so that children do not inherit it.

        With egress rules the sandbox holds no token: the rule outside replaces the word.
        """
        token = os.environ.pop("SANDSTREAM_RUN_TOKEN", "")
        if self.credentials == "egress":
            return "egress"
        if not token:
            raise JobInvalid("job file: credentials=env, but SANDSTREAM_RUN_TOKEN is not set")
        self.redact.append(token)
        return token

    def _take_model_key(self) -> str:
        """The key for the model's host; with egress rules a word that the rule outside replaces."""
        keys = {maker: os.environ.pop(name, "") for maker, name in MODEL_KEYS.items()}
        if self.credentials == "egress":
            return "placeholder"
        self.redact.extend(key for key in keys.values() if key)
        planner = self.input.get("planner")
        return keys.get(str(planner.get("provider")) if isinstance(planner, dict) else "anthropic", "")


class Lock:
    """One runner per job directory, held until this process ends, however it ends.

    A second runner of the same epoch gives up at once; one of a higher epoch waits until the older one has
    been refused by the log and is gone, at most `TAKEOVER_SECONDS`.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._fd = -1

    def __enter__(self) -> Lock:
        """Raise RunnerBusy while another runner keeps the job."""
        self._fd = os.open(self._job.path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        patience = time.monotonic() + TAKEOVER_SECONDS
        while not self._try():
            if self._holder() >= self._job.epoch or time.monotonic() >= patience:
                os.close(self._fd)
                raise RunnerBusy("another runner of this job is alive")
            time.sleep(_LOCK_POLL_SECONDS)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % self._job.epoch, 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def _try(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _holder(self) -> int:
        """The holder's epoch; 0 in the moment before it has written it."""
        return int(os.pread(self._fd, 32, 0).strip() or b"0")


class Ending:
    """How a run ends: a terminal status with its result and error, as finish_run_v1 takes them."""

    def __init__(self, status: str, result: dict[str, Any] | None = None, error: dict[str, Any] | None = None) -> None:
        self.status = status
        self.result = result
        self.error = error


class State:
    """The two facts a restart needs that are no events: when the run first started, and how it decided to end."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.started = boottime()
        self.ending: Ending | None = None
        if not self._load():
            self._save()

    def decide(self, ending: Ending) -> Ending:
        """Keep the ending, so that a restart repeats the same finish."""
        self.ending = ending
        try:  # noqa: SIM105 contextlib is not worth its import before the first event
            self._save()
        except OSError:
            pass  # on a full disk the run still ends, only less exactly after a restart
        return ending

    def go_on(self) -> None:
        """Forget the ending: the log did not take it. Raise OSError."""
        self.ending = None
        self._save()

    def _load(self) -> bool:
        try:
            with open(self._path, encoding="utf-8") as file:
                kept = loads(file.read())
        except FileNotFoundError:
            return False
        # Another boot counts from zero: then the limit starts again, and the sweep keeps the real deadline.
        self.started = min(self.started, float(kept["started"]))
        if kept["ending"] is not None:
            self.ending = Ending(*kept["ending"])
        return True

    def _save(self) -> None:
        ending = self.ending and [self.ending.status, self.ending.result, self.ending.error]
        draft = self._path + ".new"
        with open(draft, "w", encoding="utf-8") as file:
            file.write(dumps({"started": self.started, "ending": ending}))
        os.replace(draft, self._path)
