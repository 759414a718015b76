"""What a security event takes back, and until when that matters."""

from typing import Final

from auth.access_token import LONGEST
from auth.audit import Kind, SecurityEvent
from grpc_common.revocations import IssuedUntil, Revocation, TakenBack

CLOCKS_APART: Final = 120.0
"""Seconds by which the clock of who issued a token may be ahead of the clock of who took it back."""


CLOCKS_DIFFER: Final = 30.0
"""Seconds by which the clock of a replica that issued a token may have been ahead. Those that hear of the end issue
tokens as of later, which the leeway of verifiers, twice as long, lets through.
"""


def issued_until(event: SecurityEvent) -> float:
    """Return until when, in Unix seconds, the tokens are taken back that were issued before all sessions ended."""
    return event.at.timestamp() + CLOCKS_DIFFER


def taken_back(event: SecurityEvent) -> TakenBack | None:
    """Return what the event takes back, with when the last access token of it expires; None when that is nothing."""
    match event.kind:
        case Kind.SESSION_REVOKED | Kind.CLIENT_DELETED:
            identifier = event.session_id
        case Kind.TOKEN_REVOKED:
            identifier = event.token_id
        case Kind.ALL_SESSIONS_ENDED:
            return IssuedUntil(issued_until(event))
        case _:
            return None
    return Revocation(identifier, event.at.timestamp() + LONGEST + CLOCKS_APART) if identifier else None
