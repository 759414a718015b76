"""The tokens all callers send, the same for every contestant that reads them."""

import json
import time
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

ISSUER: Final = "https://auth.bench.local"
AUDIENCE: Final = "meshwork"
KEY_ID: Final = "bench-v1"
TOKENS: Final = 200


def write_keys(folder: Path) -> list[str]:
    """Write `jwks.json` into the folder and return the tokens that it verifies."""
    key = ec.generate_private_key(ec.SECP256R1())
    jwk = json.loads(ECAlgorithm.to_jwk(key.public_key())) | {"kid": KEY_ID, "use": "sig", "alg": "ES256"}
    (folder / "jwks.json").write_text(json.dumps({"keys": [jwk]}))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return [
        jwt.encode(claims(number), pem, "ES256", headers={"kid": KEY_ID, "typ": "at+jwt"}) for number in range(TOKENS)
    ]


def claims(number: int) -> dict[str, Any]:
    """Return the claims of one of the users."""
    now = int(time.time())
    who = {"iss": ISSUER, "aud": AUDIENCE, "sub": f"user-{number}", "jti": f"{number:032x}", "sid": f"{number:032x}"}
    return {**who, "iat": now, "nbf": now, "exp": now + 3600, "roles": ["editor"], "scope": "items.read"}
