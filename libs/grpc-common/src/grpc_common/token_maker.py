"""Makes access tokens: for tests, and for trying things by hand where there is no auth service."""

import json
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

_NEW_KEY: Final[Mapping[str, Callable[[], Any]]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
}


class TokenMaker:
    """An issuer with one key, made when it is made and kept in this process; `clock` gives Unix seconds."""

    def __init__(
        self,
        issuer: str = "https://issuer.test",
        audience: str = "meshwork",
        *,
        algorithm: str = "ES256",
        kid: str = "test-v1",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.issuer = issuer
        self.audience = audience
        self.algorithm = algorithm
        self.kid = kid
        self.clock = clock
        self._signer = jwt.PyJWS().get_algorithm_by_name(algorithm)
        self._key = _NEW_KEY[algorithm]()

    def jwk(self) -> dict[str, Any]:
        """Return the public key as a member of a JWKS document."""
        public = self._signer.to_jwk(self._key.public_key(), as_dict=True)
        return {**public, "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def jwks(self) -> dict[str, Any]:
        """Return the JWKS document."""
        return {"keys": [self.jwk()]}

    def header(self) -> dict[str, Any]:
        """Return the header of a token."""
        return {"alg": self.algorithm, "kid": self.kid, "typ": "at+jwt"}

    def claims(
        self,
        subject: str,
        *,
        roles: Iterable[str] = (),
        scopes: Iterable[str] = (),
        lifetime: float = 600.0,
        session: str = "",
    ) -> dict[str, Any]:
        """Return the claims of a token that expires in `lifetime` seconds (RFC 9068 §2.2), of a login or of none."""
        now = int(self.clock())
        return {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": subject,
            "client_id": "tests",
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
            "jti": uuid.uuid4().hex,
            "roles": sorted(roles),
            **({"scope": scope} if (scope := " ".join(sorted(scopes))) else {}),
            **({"sid": session} if session else {}),
        }

    def token(
        self,
        subject: str = "alice",
        *,
        roles: Iterable[str] = (),
        scopes: Iterable[str] = (),
        lifetime: float = 600.0,
        session: str = "",
    ) -> str:
        """Return a token for `subject`."""
        claims = self.claims(subject, roles=roles, scopes=scopes, lifetime=lifetime, session=session)
        return self.sign(self.header(), claims)

    def sign(self, header: Mapping[str, Any] | bytes, claims: Mapping[str, Any] | bytes) -> str:
        """Sign whatever it is given, also what no issuer would; bytes are taken as they are."""
        signed = f"{_part(header)}.{_part(claims)}"
        return f"{signed}.{_part(self._signer.sign(signed.encode(), self._key))}"


def _part(value: Mapping[str, Any] | bytes) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return urlsafe_b64encode(data).rstrip(b"=").decode()
