"""Tokens as a forger makes them: what PyJWT refuses to sign is put together by hand."""

import base64
import hashlib
import hmac
import json
from typing import Any


def unsigned(claims: dict[str, Any], algorithm: str = "none") -> str:
    """A token with no signature at all."""
    return f"{_part({'alg': algorithm})}.{_part(claims)}."


def hmac_signed(claims: dict[str, Any], secret: bytes, kid: str) -> str:
    """A token that calls itself HS256, signed with any bytes: a public key, for instance."""
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT', 'kid': kid})}.{_part(claims)}"
    return f"{signed}.{_base64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def _part(content: dict[str, Any]) -> str:
    return _base64(json.dumps(content).encode())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
