"""Security events between the domain, the wire and the outbox."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.audit import Kind, SecurityEvent
from auth.revoked import taken_back
from auth.table import OUTBOX, REVOCATIONS
from grpc_common.errors import ValidationError
from grpc_common.mappers import ProtobufMapper
from grpc_common.new_id import new_id
from grpc_common.outbox.event import Event
from grpc_common.outbox.outbox import enqueue
from grpc_common.revocations import Revocation
from grpc_common.timestamps import from_timestamp, to_timestamp
from meshwork.auth.v1 import security_event_pb2 as pb


class SecurityEventMapper(ProtobufMapper[SecurityEvent, pb.SecurityEvent]):
    """Maps security events both ways without loss."""

    def to_proto(self, entity: SecurityEvent) -> pb.SecurityEvent:
        """Return the message that says all that the event says."""
        return pb.SecurityEvent(
            kind=_KINDS[entity.kind],
            at=to_timestamp(entity.at),
            subject=entity.subject,
            actor=entity.actor,
            client_id=entity.client_id,
            session_id=entity.session_id,
            token_id=entity.token_id,
            reason=entity.reason,
            address=entity.address,
            correlation_id=entity.correlation_id,
            roles=entity.roles,
        )

    def from_proto(self, proto: pb.SecurityEvent) -> SecurityEvent:
        """Return the event; what is finer than a microsecond is cut off.

        Raises:
            ValidationError: for `kind`, when this version knows none of that number; for `at`, when it is beyond the
                years 1 to 9999.
        """
        return SecurityEvent(
            kind=_kind(proto.kind),
            at=from_timestamp("at", proto.at),
            subject=proto.subject,
            actor=proto.actor,
            client_id=proto.client_id,
            session_id=proto.session_id,
            token_id=proto.token_id,
            reason=proto.reason,
            address=proto.address,
            correlation_id=proto.correlation_id,
            roles=tuple(proto.roles),
        )


_KINDS: Final = {kind: pb.SecurityEventKind.Value(f"SECURITY_EVENT_KIND_{kind.name}") for kind in Kind}
_NAMES: Final = {number: kind for kind, number in _KINDS.items()}
_MAPPER: Final = SecurityEventMapper()


async def tell(connection: AsyncConnection, events: Sequence[SecurityEvent]) -> None:
    """Write the events to the outbox, in the transaction of what they tell and when its rows are locked; and what they
    take back to the table of that, too.
    """
    named = [(new_id(), event) for event in events]
    await enqueue(connection, OUTBOX, [_outgoing(event_id, event) for event_id, event in named])
    rows = [
        {"event_id": event_id, "identifier": revoked.id, "expires_at": revoked.expires_at}
        for event_id, event in named
        if isinstance(revoked := taken_back(event), Revocation)
    ]
    if rows:
        await connection.execute(insert(REVOCATIONS), rows)


def _outgoing(event_id: str, event: SecurityEvent) -> Event:
    # What is told in order waits for what was told before it: no session is revoked late because of much else that
    # happened to its user, and attempts to log in as nobody do not wait for each other.
    subject = event.session_id or event.token_id or event.subject or event_id
    return Event(event_id, subject, _MAPPER.to_proto(event).SerializeToString(), event.at)


def _kind(number: pb.SecurityEventKind.ValueType) -> Kind:
    try:
        return _NAMES[number]
    except KeyError:
        raise ValidationError(f"is {number}, which is no kind of event known here", field="kind") from None
