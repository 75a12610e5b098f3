"""Password hashes: scrypt, in a text form that carries its own parameters."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets

# A sixteenth of what guards real passwords: these are of one machine's test users, and there may be thousands.
COST = 2**10
BLOCK = 8
SALT_BYTES = 16


async def hash_password(password: str) -> str:
    """About 4 ms, in a thread."""
    return await asyncio.to_thread(_hash, password)


async def matches(password: str, stored: str | None) -> bool:
    """Whether it is the password. Takes as long when there is none to compare with."""
    return await asyncio.to_thread(_matches, password, stored)


def _hash(password: str) -> str:
    salt = secrets.token_bytes(SALT_BYTES)
    return f"scrypt${COST}${BLOCK}${_text(salt)}${_text(_derive(password, salt, COST, BLOCK))}"


def _matches(password: str, stored: str | None) -> bool:
    _, cost, block, salt, wanted = (stored or f"scrypt${COST}${BLOCK}$AAAA$AAAA").split("$")
    derived = _derive(password, base64.b64decode(salt), int(cost), int(block))
    return hmac.compare_digest(derived, base64.b64decode(wanted)) and stored is not None


def _derive(password: str, salt: bytes, cost: int, block: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=cost, r=block, p=1, dklen=32)


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
