"""The end of families in a database, in the transaction of whatever ends them."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from auth.audit import Kind, SecurityEvent
from auth.caller import Caller
from auth.family import Ending
from auth.security_events import tell
from auth.table import FAMILIES, IS_LIVING
from grpc_common.database.column_types import can_hold


async def end_families(
    connection: AsyncConnection, which: ColumnElement[bool], ending: Ending, at: float, caller: Caller
) -> int:
    """End the families that have not ended, and tell of each, and who did it; return how many. `at` is Unix seconds."""
    # In one order, so that two who do this at the same time do not wait for each other's rows for ever.
    living = select(FAMILIES.c.id).where(which, IS_LIVING).order_by(FAMILIES.c.id)
    locked = living.with_for_update().cte("living")
    ended = (
        update(FAMILIES)
        .where(FAMILIES.c.id.in_(select(locked.c.id)), IS_LIVING)
        .values(revoked=ending)
        .returning(FAMILIES.c.id, FAMILIES.c.subject, FAMILIES.c.client_id)
    )
    families = (await connection.execute(ended)).all()
    await tell(connection, [_told(family, ending, at, caller) for family in families])
    return len(families)


async def end_families_with(
    connection: AsyncConnection, which: ColumnElement[bool], ending: Ending, event: SecurityEvent
) -> int:
    """End the families as `end_families` does, because of what `event` tells: when it happened, by whoever did that."""
    caller = Caller(event.address, event.actor)
    return await end_families(connection, which, ending, event.at.timestamp(), caller)


def all_of(subject: str, keep: str = "") -> ColumnElement[bool]:
    """Return the condition for all families of a subject but `keep`, an id."""
    kept = keep if can_hold(keep) else ""
    return and_(FAMILIES.c.subject == subject, FAMILIES.c.id != kept)


def _told(family: Any, ending: Ending, at: float, caller: Caller) -> SecurityEvent:
    return SecurityEvent(
        kind=Kind.SESSION_REVOKED,
        at=datetime.fromtimestamp(at, UTC),
        subject=family.subject,
        actor=caller.actor,
        client_id=family.client_id,
        session_id=family.id,
        reason=ending,
        address=caller.address,
    )
