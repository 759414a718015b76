"""Who signs access tokens: the port that keeps the private keys, and what is known of the public ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from auth.thumbprint import thumbprint

type Algorithm = Literal["ES256", "EdDSA", "RS256"]

LEAST_RSA_BITS: Final = 2048


class SignerError(Exception):
    """The keys cannot be used as they are, and waiting does not mend it; the message says what to do."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of one version of the key."""

    version: int
    made_at: float
    """Unix seconds."""
    jwk: dict[str, str]
    """The key itself (RFC 7518 §6, RFC 8037 §2), without a name."""
    kid: str = field(init=False)
    """Its name, which is that of no other key: not even of one that has its place and its number after it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kid", thumbprint(self.jwk))


class Signer(Protocol):
    """A signing key with versions, which nobody can take away from where it is."""

    @property
    def name(self) -> str:
        """What the key is called. Another one may be called so later, with versions of the same numbers."""
        ...

    @property
    def algorithm(self) -> Algorithm:
        """The one algorithm all versions are for."""
        ...

    async def versions(self) -> Sequence[PublicKey]:
        """Return all versions there are, oldest first, at least one; the first is made where there is none any more.

        Raises:
            ExternalServiceError: nobody can tell just now.
            SignerError: the key is not fit for the algorithm.
        """
        ...

    async def sign(self, version: int, data: bytes) -> bytes:
        """Return the signature of `data` as a JWS has it (RFC 7518 §3.1), by exactly that version.

        Raises:
            ExternalServiceError: it cannot be made just now.
            SignerError: there is no such version any more.
        """
        ...

    async def rotate(self) -> None:
        """Make the next version; the others stay."""
        ...

    async def retire(self, before: int) -> None:
        """Destroy the private halves of all versions before that one, and know those versions no more."""
        ...


def to_jwk(key: PublicKeyTypes, algorithm: Algorithm) -> dict[str, str]:
    """Return `key` as a JWK; raise SignerError when it is not one for `algorithm`."""
    match algorithm, key:
        case ("ES256", EllipticCurvePublicKey(curve=SECP256R1())) | ("EdDSA", Ed25519PublicKey()):
            pass
        case "RS256", RSAPublicKey(key_size=size) if size >= LEAST_RSA_BITS:
            pass
        case _:
            raise SignerError(f"the key is not one for {algorithm}: name another key, or its own algorithm")
    members = jwt.PyJWS().get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
    return {name: members[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in members}
