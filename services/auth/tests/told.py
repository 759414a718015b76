"""What is in the outbox."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.audit import SecurityEvent
from auth.security_events import SecurityEventMapper
from auth.table import OUTBOX
from meshwork.auth.v1 import security_event_pb2 as pb


async def told(engine: AsyncEngine) -> Sequence[SecurityEvent]:
    """Return the events in the order in which they were written."""
    async with engine.connect() as connection:
        payloads = await connection.scalars(select(OUTBOX.c.payload).order_by(OUTBOX.c.number))
    return [SecurityEventMapper().from_proto(pb.SecurityEvent.FromString(payload)) for payload in payloads]
