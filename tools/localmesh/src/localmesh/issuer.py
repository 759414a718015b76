"""The issuer of access tokens for development: one ES256 key of this machine, and its public half for the ingress."""

import hashlib
import json
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from localmesh.files import private_folder, write_atomically, write_secret
from localmesh.topology import Tokens

LIFETIME = 900
DEFAULT_ROLES = ("editor",)
SUBJECT = "developer"


class Issuer:
    """Signs tokens with the key in `folder`, which is made the first time."""

    def __init__(self, folder: Path, tokens: Tokens) -> None:
        self._tokens = tokens
        self._key = _read_or_make(private_folder(folder) / "key.pem")
        public = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        self._kid = _thumbprint(public)
        self.jwks = folder / "jwks.json"
        document = {"keys": [public | {"kid": self._kid, "alg": "ES256", "use": "sig"}]}
        write_atomically(self.jwks, json.dumps(document, indent=2))

    def sign(self, roles: Sequence[str] = DEFAULT_ROLES, *, subject: str = SUBJECT, lifetime: int = LIFETIME) -> str:
        """A token (RFC 9068 claims) for `subject` with these roles; `lifetime` is seconds."""
        now = int(time.time())
        claims = {
            "iss": self._tokens.issuer,
            "aud": self._tokens.audience,
            "sub": subject,
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            "jti": secrets.token_urlsafe(16),
            "roles": list(roles),
            "scope": self._tokens.audience,
        }
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._kid})


def _read_or_make(path: Path) -> ec.EllipticCurvePrivateKey:
    if path.is_file():
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key
    made = ec.generate_private_key(ec.SECP256R1())
    pkcs8 = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_secret(path, made.private_bytes(*pkcs8))
    return made


def _thumbprint(jwk: dict[str, str]) -> str:
    """The key's name: the start of its thumbprint (RFC 7638)."""
    members = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(members.encode()).hexdigest()[:16]
