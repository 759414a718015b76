"""Who is calling."""

from dataclasses import dataclass
from typing import Literal

from grpc_common.call import current_call


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller, whatever proved it; it holds nothing that could be used to call in its name."""

    subject: str
    issuer: str
    """Who vouches for the subject: the `iss` of a token, the trust domain of a certificate."""
    expires_at: float
    """Unix seconds from which the proof counts no more, with the leeway of whoever checked it already added."""
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    client_id: str = ""
    token_id: str = ""
    """The `jti` of a token, by which it is revoked."""
    session_id: str = ""
    """The `sid` of a token: the login or the client it comes from, by which it is revoked with all others of it."""
    issued_at: float | None = None
    """Unix seconds."""
    kind: Literal["token", "mtls"] = "token"


def current_principal() -> Principal | None:
    """Return who makes the call this task works for; None outside of a call, and where anybody may call."""
    call = current_call.get()
    if call is None:
        return None
    principal: Principal | None = call.principal
    return principal
