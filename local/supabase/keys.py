"""API keys and JSON web tokens: who calls. Shared by REST, Auth and Realtime."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from jwt.algorithms import ECAlgorithm

from local.supabase.settings import SupabaseSettings

REMEMBERED_TOKENS = 1024
PUBLIC_PARTS = ("kty", "crv", "x", "y")
# `aud` and `iss` are not PostgREST's business; `sub` and `jti` may be any JSON there.
UNCHECKED = {"verify_aud": False, "verify_iss": False, "verify_sub": False, "verify_jti": False}


class KeyRefusedError(Exception):
    """No API key, or one that nobody issued (the gateway's refusal, 401)."""


class TokenRefusedError(Exception):
    """A token that proves nothing. `expired` is true when only its time is wrong: past `exp` or before `nbf`."""

    def __init__(self, message: str, *, expired: bool = False) -> None:
        super().__init__(message)
        self.expired = expired


@dataclass(frozen=True)
class Caller:
    """Who calls: the Postgres role to act as, the verified claims, and the token they came in (None for a bare key)."""

    role: str
    claims: dict[str, Any] = field(default_factory=dict)
    token: str | None = None

    @cached_property
    def claims_json(self) -> str:
        """What `request.jwt.claims` is set to."""
        return json.dumps(self.claims or {"role": self.role}, separators=(",", ":"))


class Keyring:
    """Verifies and signs with the keys of one project. Remembers verified tokens: a signature check costs 0.1 ms."""

    def __init__(self, settings: SupabaseSettings) -> None:
        self._secret = settings.jwt_secret.get_secret_value()
        self._roles = {settings.publishable_key: "anon", settings.secret_key.get_secret_value(): "service_role"}
        self._private = _private_key(settings.signing_key)
        self._public_jwk = {name: settings.signing_key[name] for name in PUBLIC_PARTS}
        self._public = ECAlgorithm.from_jwk(self._public_jwk)
        self._kid = str(settings.signing_key.get("kid") or _thumbprint(self._public_jwk))
        self._remembered: OrderedDict[str, Caller] = OrderedDict()

    def jwks(self) -> dict[str, Any]:
        """The public half, as `/.well-known/jwks.json` shows it."""
        use = {"kid": self._kid, "alg": "ES256", "use": "sig", "key_ops": ["verify"], "ext": True}
        return {"keys": [self._public_jwk | use]}

    def sign(self, claims: dict[str, Any]) -> str:
        """An ES256 token with these claims."""
        return jwt.encode(claims, self._private, algorithm="ES256", headers={"kid": self._kid})

    def caller(self, apikey: str | None, authorization: str | None) -> Caller:
        """Who sends these two headers. Raises KeyRefusedError for the key, TokenRefusedError for the token.

        The clients repeat the API key as Bearer until somebody signs in; such a Bearer says nothing.
        """
        by_key = self._caller_by_key(apikey)
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if not token or scheme.lower() != "bearer" or token == apikey:
            return by_key
        return Caller(self._roles[token]) if token in self._roles else self.verify(token)

    def verify(self, token: str) -> Caller:
        """The caller whom a JWT names. Raises TokenRefusedError.

        ES256 is checked with our public key and HS256 with the legacy secret, never the other way round; nothing else
        is accepted. Without a `role` the caller is anonymous, as with PostgREST.
        """
        known = self._remembered.get(token)
        if known is None or not _in_time(known.claims):
            claims = self._decode(token)
            known = Caller(_role(claims), claims, token)
            self._remember(token, known)
        return known

    def _caller_by_key(self, apikey: str | None) -> Caller:
        if not apikey:
            raise KeyRefusedError("No API key found in request")
        if apikey in self._roles:
            return Caller(self._roles[apikey])
        try:
            return self.verify(apikey)
        except TokenRefusedError as error:
            raise KeyRefusedError("Invalid API key") from error

    def _decode(self, token: str) -> dict[str, Any]:
        try:
            algorithm = jwt.get_unverified_header(token).get("alg")
            if algorithm not in ("ES256", "HS256"):
                raise TokenRefusedError("No suitable key or wrong key type")
            key = self._public if algorithm == "ES256" else self._secret
            return dict(jwt.decode(token, key, algorithms=[algorithm], options=UNCHECKED))  # type: ignore[arg-type]
        except jwt.ExpiredSignatureError as error:
            raise TokenRefusedError("JWT expired", expired=True) from error
        except jwt.ImmatureSignatureError as error:
            raise TokenRefusedError("JWT not yet valid", expired=True) from error
        except jwt.InvalidTokenError as error:
            raise TokenRefusedError(f"JWT cryptographic operation failed: {error}") from error

    def _remember(self, token: str, caller: Caller) -> None:
        self._remembered[token] = caller
        while len(self._remembered) > REMEMBERED_TOKENS:
            self._remembered.popitem(last=False)


def new_signing_key() -> dict[str, str]:
    """A private ES256 JWK, for `LOCAL_SIGNING_KEY`."""
    private = ECAlgorithm(ECAlgorithm.SHA256).to_jwk(generate_private_key(SECP256R1()), as_dict=True)
    return {name: str(private[name]) for name in (*PUBLIC_PARTS, "d")} | {"alg": "ES256", "kid": _thumbprint(private)}


def _private_key(jwk: dict[str, Any]) -> EllipticCurvePrivateKey:
    key = ECAlgorithm.from_jwk(jwk)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise TypeError("the signing key is a public key: its `d` is missing")
    return key


def _role(claims: dict[str, Any]) -> str:
    role = claims.get("role")
    return role if isinstance(role, str) and role else "anon"


def _in_time(claims: dict[str, Any]) -> bool:
    now = time.time()
    expires, starts = claims.get("exp"), claims.get("nbf")
    return (expires is None or now < float(expires)) and (starts is None or now >= float(starts))


def _thumbprint(jwk: dict[str, Any]) -> str:
    """RFC 7638."""
    text = json.dumps({name: jwk[name] for name in sorted(PUBLIC_PARTS)}, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
