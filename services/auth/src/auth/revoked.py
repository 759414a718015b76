"""What a security event takes back, and until when that matters."""

from typing import Final

from auth.access_token import LONGEST
from auth.audit import Kind, SecurityEvent

CLOCKS_APART: Final = 120.0
"""Seconds by which the clock of who issued a token may be ahead of the clock of who took it back."""


def taken_back(event: SecurityEvent) -> tuple[str, float] | None:
    """Return the `sid` or `jti` that the event takes back, and when the last access token with it expires, in Unix
    seconds; None when it takes back nothing.
    """
    match event.kind:
        case Kind.SESSION_REVOKED | Kind.CLIENT_DELETED:
            identifier = event.session_id
        case Kind.TOKEN_REVOKED:
            identifier = event.token_id
        case _:
            return None
    return (identifier, event.at.timestamp() + LONGEST + CLOCKS_APART) if identifier else None
