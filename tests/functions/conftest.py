"""Keys and settings for tests of the control plane that need no stack."""

import json
import time
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from functions.settings import Settings

SUPABASE_URL = "http://supabase.test"
ISSUER = f"{SUPABASE_URL}/auth/v1"


class SigningKey:
    """An ES256 key pair with an id, as Supabase Auth has them."""

    def __init__(self, kid: str) -> None:
        self.kid = kid
        self.private: EllipticCurvePrivateKey = ec.generate_private_key(ec.SECP256R1())

    def jwk(self) -> str:
        """The private JWK."""
        return json.dumps({**jwt.algorithms.ECAlgorithm.to_jwk(self.private, as_dict=True), "kid": self.kid})

    def public_jwk(self) -> dict[str, Any]:
        """What JWKS lists."""
        public = jwt.algorithms.ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**public, "kid": self.kid, "alg": "ES256", "use": "sig"}

    def sign(self, claims: dict[str, Any], **headers: Any) -> str:
        """A JWT of this key."""
        return jwt.encode(claims, self.private, "ES256", headers={"kid": self.kid, **headers})


def user_claims(**changes: Any) -> dict[str, Any]:
    """The claims of a signed-in user."""
    claims = {
        "sub": str(uuid4()),
        "role": "authenticated",
        "aud": "authenticated",
        "iss": ISSUER,
        "exp": int(time.time()) + 3600,
    }
    return {**claims, **changes}


@pytest.fixture(scope="session")
def signing_key() -> SigningKey:
    return SigningKey("key-1")


@pytest.fixture
def settings(signing_key: SigningKey) -> Settings:
    return Settings(
        sandstream_url="https://endpoints.test",
        supabase_url=SUPABASE_URL,
        supabase_publishable_key="sb_publishable_canary",
        supabase_secret_key="sb_secret_canary",
        run_token_key=signing_key.jwk(),
        e2b_api_key="e2b_canary",
        # Said, so that no key of the environment takes its place.
        anthropic_api_key=None,
        openai_api_key=None,
    )
