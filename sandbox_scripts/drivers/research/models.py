"""Models over their makers' SDKs: one question, one JSON reply that keeps to a schema, and what it used.

OpenAI's wire is that of many; its structured output is `response_format`, Anthropic's `output_config.format`. The SDKs'
own parsing is not used: it raises where a reply does not fit, and what its tokens cost would not be told.
"""

from __future__ import annotations

import importlib

from .failures import Down

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .question import Question

PROVIDERS = OPENAI, ANTHROPIC = "openai", "anthropic"
REQUEST_SECONDS = 120.0
LONGEST_REPLY_TOKENS = 16_000
RETRY_AFTER_CAP_SECONDS = 30.0
# What asking again may mend; so may any status from 500 on.
PASSING = (408, 409, 429)


class Usage:
    """Tokens of one request, in Anthropic's four names."""

    def __init__(self, fresh: Any = 0, output: Any = 0, written: Any = 0, cached: Any = 0) -> None:
        counts = {"input": fresh, "output": output, "cache_creation_input": written, "cache_read_input": cached}
        self.data = {f"{name}_tokens": _count(value) for name, value in counts.items()}


class Reply:
    """What came back. `refusal` is None unless the model declines; `is_cut`: it would have said more."""

    def __init__(self, text: str, usage: Usage, refusal: str | None = None, is_cut: bool = False) -> None:
        self.text, self.usage, self.refusal, self.is_cut = text, usage, refusal, is_cut


class Model:
    """One model of one maker."""

    def __init__(self, provider: str, name: str, url: str, key: str) -> None:
        """Import the SDK, which takes a second or more. Raise ImportError."""
        self._name, self._is_openai = name, provider == OPENAI
        self._sdk = importlib.import_module(provider)
        told = {"api_key": key or "none", "base_url": url, "max_retries": 0, "timeout": REQUEST_SECONDS}
        self._client = self._sdk.OpenAI(**told) if self._is_openai else self._anthropic(told)

    def ask(self, question: Question) -> Reply:
        """Ask once. Raise Down."""
        try:
            return self._ask_openai(question) if self._is_openai else self._ask_anthropic(question)
        except self._sdk.APIStatusError as error:
            raise _refused(error) from error
        except self._sdk.APIError as error:
            raise Down(f"{type(error).__name__}: {error}") from error
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            # The SDKs hand out whatever came: HTML as a string, missing fields as None, a list for a text.
            raise Down(f"the answer is no completion ({type(error).__name__})") from error

    def close(self) -> None:
        """Drop the connections; a request that is under way breaks."""
        self._client.close()

    def _anthropic(self, told: dict[str, Any]) -> Any:
        """With the key in the header that egress rules replace; the SDK itself would send it as a Bearer token."""
        headers = {"x-api-key": told["api_key"], "Authorization": self._sdk.Omit()}
        return self._sdk.Anthropic(default_headers=headers, **told)

    def _ask_openai(self, question: Question) -> Reply:
        schema = {"name": question.name, "strict": True, "schema": question.schema}
        completion = self._client.chat.completions.create(
            model=self._name,
            messages=[
                {"role": "system", "content": question.system},
                {"role": "user", "content": question.prompt},
            ],
            response_format={"type": "json_schema", "json_schema": schema},
            max_completion_tokens=LONGEST_REPLY_TOKENS,
        )
        choice = completion.choices[0]
        text, refusal = _said(choice.message.content), _said(choice.message.refusal) or None
        if choice.finish_reason == "content_filter":
            refusal = refusal or "content_filter"
        return Reply(text, used(completion.usage), refusal, choice.finish_reason == "length")

    def _ask_anthropic(self, question: Question) -> Reply:
        message = self._client.messages.create(
            model=self._name,
            system=question.system,
            messages=[{"role": "user", "content": question.prompt}],
            output_config={"format": {"type": "json_schema", "schema": question.schema}},
            max_tokens=LONGEST_REPLY_TOKENS,
        )
        used = message.usage
        usage = Usage(
            used.input_tokens, used.output_tokens, used.cache_creation_input_tokens, used.cache_read_input_tokens
        )
        text = "".join(block.text for block in message.content if block.type == "text")
        refusal = (text or "refusal") if message.stop_reason == "refusal" else None
        return Reply(text, usage, refusal, message.stop_reason == "max_tokens")


def _said(text: Any) -> str:
    """A text, empty where there is none. Raise TypeError."""
    if text is not None and not isinstance(text, str):
        raise TypeError(f"{type(text).__name__} where a text should be")
    return text or ""


def used(usage: Any) -> Usage:
    """OpenAI counts what its cache had, and what was written into it, among the prompt; not every server tells."""
    details = getattr(usage, "prompt_tokens_details", None)
    prompt = _count(getattr(usage, "prompt_tokens", 0))
    cached = min(prompt, _count(getattr(details, "cached_tokens", 0)))
    written = min(prompt - cached, _count(getattr(details, "cache_write_tokens", 0)))
    return Usage(prompt - cached - written, getattr(usage, "completion_tokens", 0), written, cached)


def _refused(error: Any) -> Down:
    status = int(error.status_code)
    message = f"{status}: {error.message}"
    return Down(message, status < 500 and status not in PASSING, _retry_after(error.response.headers))


def _retry_after(headers: Any) -> float | None:
    """The form with a date is not read: the sandbox's clock decides nothing."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, RETRY_AFTER_CAP_SECONDS) if seconds >= 0 else None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
