"""A client: a program that calls in its own name (RFC 6749 §2)."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class Client:
    """One client, as kept: never its secret, only the hash."""

    id: str
    secret_hash: bytes = field(repr=False)
    """SHA-256."""
    roles: frozenset[str]
    scopes: frozenset[str]
    """Those that its tokens may have."""
    created_at: datetime

    @property
    def session_id(self) -> str:
        """The `sid` of its tokens, by which they end when it is deleted; who gets its id later has another one."""
        return hashlib.sha256(b"the session of a client" + self.secret_hash).hexdigest()[:32]

    def is_proved_by(self, secret: SecretStr) -> bool:
        """Say whether that is the secret, in a time that tells nothing of it."""
        return hmac.compare_digest(hash_of(secret), self.secret_hash)


def new_secret() -> SecretStr:
    """Return a secret that nobody can guess: 256 bits."""
    return SecretStr(secrets.token_urlsafe(32))


def hash_of(secret: SecretStr) -> bytes:
    """Return what is kept of a secret; it has 256 bits and needs no slow hash."""
    return hashlib.sha256(secret.get_secret_value().encode("utf-8", "surrogatepass")).digest()
