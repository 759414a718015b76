"""Makes security events, with the time and the call they belong to."""

from collections.abc import Callable
from datetime import datetime
from typing import TypedDict, Unpack

from auth.audit import Audit, Kind, SecurityEvent
from auth.caller import Caller


class Facts(TypedDict, total=False):
    """What may be known of an event; see `SecurityEvent`."""

    subject: str
    client_id: str
    session_id: str
    token_id: str
    reason: str
    roles: tuple[str, ...]


class Recorder:
    """Says when events happen; `clock` gives the time with its zone."""

    def __init__(self, audit: Audit, clock: Callable[[], datetime]) -> None:
        self._audit = audit
        self._clock = clock

    def event(self, kind: Kind, caller: Caller, **facts: Unpack[Facts]) -> SecurityEvent:
        """Return the event that `caller` makes happen, to be kept with the change it tells of."""
        return SecurityEvent(kind=kind, at=self._clock(), actor=caller.actor, address=caller.address, **facts)

    async def record(self, kind: Kind, caller: Caller, **facts: Unpack[Facts]) -> None:
        """Keep an event that belongs to no other change; raise ExternalServiceError while the database is away."""
        await self._audit.record(self.event(kind, caller, **facts))
