"""Asks the model until it says something usable, as long as there is hope, and tells each request in the log."""

from __future__ import annotations

import time

from ...redact import literal_forms, redact_text
from .background import POLL_SECONDS, Background
from .failures import INVALID, REFUSED, UNAVAILABLE, Declined, Down, Failure, ModelError, Unusable
from .models import PROVIDERS, REQUEST_SECONDS, Model, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from ...job import Job
    from .journal import Journal
    from .models import Reply
    from .question import Question

    T = TypeVar("T")

# Requests in all that may come to each.
TRIES = {Down: 3, Declined: 2, Unusable: 3}
BACKOFF_FIRST_SECONDS = 0.5
# Of a reply that cannot be used, what is shown to the model again.
QUOTED_CHARS = 2000
# Of what a model or its server says of itself, what is told; secrets are looked for before it is cut.
MESSAGE_CHARS, READ_CHARS = 500, 16_000


class Planner:
    """The model of the job. The SDK is imported while other things go on."""

    def __init__(self, job: Job, journal: Journal) -> None:
        """Raise KeyError, TypeError or ValueError where the job names no planner."""
        told = job.input["planner"]
        self.name, self._provider = str(told["model"]), str(told["provider"])
        if self._provider not in PROVIDERS:
            raise ValueError(f"no planner is {self._provider}")
        provider, name, url, key = self._provider, self.name, str(told["url"]), job.model_key
        self._job, self._journal = job, journal
        self._forms = literal_forms(job.redact)
        self._model = Background(lambda: Model(provider, name, url, key))

    def ask(self, question: Question, read: Callable[[str], T]) -> T:
        """What `read` makes of the reply; it raises Unusable. Raise Failure and Stopped."""
        asked, tries = question, dict.fromkeys(TRIES, 0)
        while True:
            text = ""
            try:
                text = self._request(asked)
                return read(text)
            except ModelError as error:
                kind = type(error)
                tries[kind] += 1
                self._give_up(error, tries[kind] >= TRIES[kind])
                if isinstance(error, Down):
                    self._pause(error, tries[kind])
                elif isinstance(error, Unusable):
                    asked = question.again(str(error), text[:QUOTED_CHARS])

    def loaded(self) -> Model:
        """The model, as soon as its SDK is there. Raise Failure and Stopped."""
        while not self._model.done(POLL_SECONDS):
            self._journal.go_on()
        try:
            return self._model.value()
        except ImportError as error:
            raise Failure(UNAVAILABLE, f"this sandbox has no SDK {self._provider}: {error}") from error

    def close(self) -> None:
        """Whatever it was asked, nobody waits for it any more."""
        if self._model.has_value():
            self._model.value().close()

    def redacted(self, said: Any) -> Any:
        """What the model says without secrets, before it goes into the log and into commands."""
        if isinstance(said, str):
            return redact_text(said, self._forms)
        if isinstance(said, dict):
            return {name: self.redacted(value) for name, value in said.items()}
        return [self.redacted(value) for value in said] if isinstance(said, list) else said

    def _give_up(self, error: ModelError, is_last: bool) -> None:
        """Raise Failure where there is nothing more to hope for."""
        message = self.redacted(str(error)[:READ_CHARS])[:MESSAGE_CHARS]
        if isinstance(error, Down) and (is_last or error.is_final):
            raise Failure(UNAVAILABLE, f"{self.name} cannot be asked: {message}") from error
        if isinstance(error, Declined) and is_last:
            raise Failure(REFUSED, f"{self.name} refuses: {message}") from error
        if isinstance(error, Unusable) and is_last:
            raise Failure(INVALID, f"{self.name} replies nothing usable: {message}") from error

    def _pause(self, error: Down, tries: int) -> None:
        """As long as the other side asks, else 0.5 s doubling."""
        backoff = BACKOFF_FIRST_SECONDS * 2 ** (tries - 1)
        self._journal.pause(backoff if error.retry_after is None else error.retry_after)

    def _request(self, question: Question) -> str:
        """The text of one reply, with the request's span in the log."""
        model = self.loaded()
        self._journal.begin_request(self.name)
        usage, is_error = Usage(), True
        try:
            reply = self._awaited(Background(lambda: model.ask(question)))
            usage, is_error = reply.usage, False
        finally:
            self._journal.end_request(usage.data, is_error)
        return _text_of(reply)

    def _awaited(self, request: Background[Reply]) -> Reply:
        """Its answer. Raise Stopped as soon as the run has to end, and Down when it takes too long in all."""
        give_up = time.monotonic() + REQUEST_SECONDS
        while not request.done(POLL_SECONDS):
            self._journal.go_on()
            if time.monotonic() >= give_up:
                raise Down(f"no answer within {REQUEST_SECONDS:g} seconds")
        return request.value()


def _text_of(reply: Reply) -> str:
    if reply.refusal is not None:
        raise Declined(reply.refusal)
    if reply.is_cut:
        raise Unusable("it was cut off, because it was too long")
    if not reply.text.strip():
        raise Unusable("it was empty")
    return reply.text
