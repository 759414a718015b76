"""What the auth interceptor needs of whoever judges tokens, and the words a refused caller gets."""

from collections.abc import Iterable
from typing import Final, Literal, Protocol

from grpc_common.errors import ForbiddenError, UnauthorizedError
from grpc_common.principal import Principal

type Reason = Literal["missing", "malformed", "expired", "not_yet_valid", "not_accepted", "revoked"]

INSUFFICIENT: Final = "insufficient_scope"
"""What RFC 6750 §3.1 calls a token that is good and allows too little, also by the roles in it."""


class JWTService(Protocol):
    """Turns a bearer token into the principal it proves."""

    def cached(self, token: str) -> Principal | None:
        """Return the principal of a token that was verified before and still counts; None says nothing about it."""
        ...

    async def verify(self, token: str) -> Principal:
        """Return the principal; raise UnauthorizedError, or ExternalServiceError when nobody can tell just now."""
        ...


def refusal(reason: Reason, message: str) -> UnauthorizedError:
    """Return the error for a caller without a good token; `message` must hold nothing of the token."""
    return UnauthorizedError(message, metadata={"reason": reason})


def token_expired() -> UnauthorizedError:
    """Return the error for a token that was good once."""
    return refusal("expired", "token expired")


def token_revoked() -> UnauthorizedError:
    """Return the error for a token its issuer has taken back."""
    return refusal("revoked", "token revoked")


def insufficient(message: str, scopes: Iterable[str] = ()) -> ForbiddenError:
    """Return the error for a caller whose good token does not allow what it is for; `scopes` are those it needs."""
    needed = " ".join(scopes)
    return ForbiddenError(message, metadata={"reason": INSUFFICIENT, **({"scope": needed} if needed else {})})
