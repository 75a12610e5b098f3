"""The local stack as a child process: started, described by the one JSON line it prints, ended with us."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from pydantic import BaseModel, ConfigDict

from sandstream.errors import SandstreamError

STOP_SECONDS = 30


class StackFailedError(SandstreamError):
    """The local stack did not come up, or is not installed."""


class LocalStack(BaseModel):
    """Where a local stack's parts are, and a signed-in user's token."""

    model_config = ConfigDict(frozen=True)

    api_url: str
    supabase_url: str
    publishable_key: str
    secret_key: str
    e2b_api_url: str
    e2b_api_key: str
    models_url: str | None
    web_url: str
    user_token: str


@contextmanager
def local_stack() -> Iterator[LocalStack]:
    """A stack of our own while inside; no process and no directory of it is left afterwards.

    Raises StackFailedError when a part does not come up.
    """
    if find_spec("local") is None:
        raise StackFailedError("the local stack is part of the repository; this installation is the client alone")
    # A session of its own: Ctrl-C reaches us alone, and we end the stack in its order.
    process = subprocess.Popen([sys.executable, "-m", "local"], stdout=subprocess.PIPE, start_new_session=True)
    try:
        yield _described(process)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _described(process: "subprocess.Popen[bytes]") -> LocalStack:
    assert process.stdout is not None  # noqa: S101 it is a pipe
    with process.stdout as lines:
        line = lines.readline()
    if not line:
        raise StackFailedError("the local stack did not come up; its reason is above")
    return LocalStack.model_validate(json.loads(line))
