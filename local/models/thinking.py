"""The signatures of thoughts: clients send both back as they were, and a resumed transcript shows if they did."""

import base64
import hashlib

from local.models.errors import ModelError
from local.models.requests import Message


def signature(thinking: str) -> str:
    """What stands under a thought; opaque to clients."""
    return base64.b64encode(hashlib.sha256(thinking.encode()).digest()).decode()


def check_signatures(messages: list[Message]) -> None:
    """Raises ModelError 400 for a thought that was changed, as the real API does."""
    for index, message in enumerate(messages):
        for block in message.of_type("thinking"):
            if block.get("signature") != signature(str(block.get("thinking", ""))):
                raise ModelError(400, f"messages.{index}: Invalid `signature` in `thinking` block")
