"""The scripted API: which answer a request gets, and how often a fault meets it first."""

import hashlib
import json
from collections import Counter
from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from local.models.answer import Answer, answer_to, turn_of
from local.models.chat import ChatRequest, Completion
from local.models.conversation import Conversation
from local.models.delivery import Delivery, failure
from local.models.embeddings import MODEL as EMBEDDINGS
from local.models.ledger import Entry, Ledger, Outcome
from local.models.requests import CountRequest, MessagesRequest
from local.models.scripts import Library, Turn
from local.models.thinking import check_signatures

SESSION_HEADER = "x-claude-code-session-id"
MODELS = ("claude-opus-5", "claude-sonnet-5", "claude-haiku-5")
PLANNER = "scripted-planner"


# Anthropic's fields and OpenAI's do not meet, so one list serves both SDKs.
OF_EACH_MODEL = {
    "type": "model",
    "created_at": "2026-01-01T00:00:00Z",
    "object": "model",
    "created": 1_767_225_600,
    "owned_by": "sandstream",
}


class Faults:
    """Counts how often each request has met its script's fault."""

    def __init__(self) -> None:
        self._met: Counter[str] = Counter()

    def strikes(self, turn: Turn, request: str) -> bool:
        """Whether this request meets the fault; once it has met it often enough, it may begin anew."""
        if not turn.is_faulty:
            return False
        if turn.fault_times is None or self._met[request] < turn.fault_times:
            self._met[request] += 1
            return True
        del self._met[request]
        return False


class Scripted:
    """Answers from scripts."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._ledger = Ledger()
        self._faults = Faults()

    def routes(self) -> list[Route]:
        """What Anthropic's API has of this, under `/v1`."""
        return [
            Route("/messages", self.messages, methods=["POST"]),
            Route("/messages/count_tokens", self.count_tokens, methods=["POST"]),
            Route("/models", self.models, methods=["GET"]),
        ]

    def openai_routes(self) -> list[Route]:
        """What OpenAI's API has of this, under `/v1`."""
        return [Route("/chat/completions", self.chat, methods=["POST"])]

    async def messages(self, request: Request) -> ASGIApp:
        """Raises ModelError: a malformed request or script, or the error that the script asks for."""
        asked = MessagesRequest.parse(await request.body())
        check_signatures(asked.messages)
        return self._answered(asked, Answer, request.headers.get(SESSION_HEADER))

    async def chat(self, request: Request) -> ASGIApp:
        """The same in OpenAI's wire. Raises ModelError likewise."""
        return self._answered(ChatRequest.parse(await request.body()).as_messages(), Completion, None)

    def _answered(self, asked: MessagesRequest, kind: type[Answer], session: str | None) -> ASGIApp:
        conversation = Conversation.of(asked)
        turn = turn_of(self._library.script(conversation), conversation)
        answer = answer_to(asked, conversation, turn, kind)
        note = partial(self._note, answer, conversation.prompt, session)
        faulty = self._faults.strikes(turn, _identity(asked, session))
        if faulty and turn.error is not None and (turn.cut_after is None or not asked.stream):
            note("failed")
            raise failure(turn.error)
        return Delivery(answer, turn, faulty=faulty, stream=asked.stream, ended=note)

    async def count_tokens(self, request: Request) -> Response:
        """Raises ModelError 400 for a malformed request."""
        return JSONResponse({"input_tokens": CountRequest.parse(await request.body()).tokens()})

    async def models(self, _request: Request) -> Response:
        """A list, so that clients that look find something."""
        names = (*MODELS, PLANNER, EMBEDDINGS)
        data = [{**OF_EACH_MODEL, "id": name, "display_name": name} for name in names]
        of_page = {"has_more": False, "first_id": names[0], "last_id": names[-1]}
        return JSONResponse({"object": "list", "data": data, **of_page})

    async def ledger(self, _request: Request) -> Response:
        """What was answered so far."""
        return JSONResponse(self._ledger.listed())

    def _note(self, answer: Answer, prompt: str, session: str | None, outcome: Outcome) -> None:
        self._ledger.add(Entry(answer.id, answer.model, answer.usage, prompt, session, outcome))


def _identity(request: MessagesRequest, session: str | None) -> str:
    """The same for a request and its retries: reminders that count tokens may differ between them."""
    said = [message.model_dump() for message in request.messages if message.role != "system"]
    return hashlib.sha256(json.dumps([session, said]).encode()).hexdigest()
