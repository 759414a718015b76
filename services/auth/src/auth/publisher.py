"""Tells security events: to the log, and what they take back to every service."""

from typing import Final, Protocol

import structlog

from auth.audit import Kind, SecurityEvent
from auth.revoked import taken_back
from auth.security_events import SecurityEventMapper
from grpc_common.outbox.event import Event
from grpc_common.revocations import Revocations, TakenBack
from meshwork.auth.v1 import security_event_pb2 as pb

MOST_WRITTEN: Final = 10_000
"""Events that are in the log already while they cannot be told to the services."""


class Revoker(Protocol):
    """Where all services hear of what is taken back."""

    async def tell(self, taken_back: TakenBack, /) -> None:
        """Take back a token or a session, or all tokens issued until a moment; return when it is safe there, and raise
        when it is not.
        """
        ...


class SecurityEventPublisher:
    """An EventPublisher whose events are messages `meshwork.auth.v1.SecurityEvent`. What they take back goes to `own`,
    what this process knows, at once, and through `revoker`, if there is one, to everybody.

    The line is written first and, as far as this process remembers, once: no outage keeps it back.
    """

    def __init__(self, own: Revocations, revoker: Revoker | None = None) -> None:
        self._own = own
        self._revoker = revoker
        self._mapper = SecurityEventMapper()
        self._written: dict[str, None] = {}
        self._log = structlog.get_logger(component="security")

    async def publish(self, event: Event) -> None:
        """Write the line and publish what is taken back.

        Raises:
            ValidationError: it is of a kind that this version does not know; a newer one will tell it.
            ExternalServiceError: what is taken back cannot be published now.
        """
        happened = self._mapper.from_proto(pb.SecurityEvent.FromString(event.payload))
        if event.id not in self._written:
            self._write(event.id, happened)
        if (revoked := taken_back(happened)) is None:
            return
        self._own.take(revoked)
        if self._revoker is not None:
            self._remember(event.id)
            await self._revoker.tell(revoked)
            self._written.pop(event.id, None)

    def _write(self, event_id: str, event: SecurityEvent) -> None:
        told = {
            "event_id": event_id,
            "kind": event.kind.value,
            "at": event.at.isoformat(),
            "subject": event.subject,
            "actor": event.actor,
            "client_id": event.client_id,
            "session_id": event.session_id,
            "jti": event.token_id,  # under its own name it would be taken for a token, and hidden
            "reason": event.reason,
            "address": event.address,
            "correlation_id": event.correlation_id,
            "roles": event.roles,
        }
        write = self._log.warning if _is_alarming(event) else self._log.info
        write("security event", **{name: value for name, value in told.items() if value})

    def _remember(self, event_id: str) -> None:
        self._written[event_id] = None
        while len(self._written) > MOST_WRITTEN:
            del self._written[next(iter(self._written))]


def _is_alarming(event: SecurityEvent) -> bool:
    alarming = {Kind.LOGIN_FAILED, Kind.CLIENT_REFUSED, Kind.BOOTSTRAP_REFUSED, Kind.ALL_SESSIONS_ENDED}
    return event.kind in alarming or event.reason == "reused"
