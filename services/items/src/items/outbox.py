"""Events that are to be told, written in the transaction of the change and kept until they are.

Of each item only the first event that is not told is ever handed out, and while it is claimed nobody else gets it: so
the events of one item leave one by one, however many relays there are. A claim ends by itself when its relay is dead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from grpc_common.database.driver_errors import translated_errors
from grpc_common.database.reader import Reader
from grpc_common.new_id import new_id
from items.change import Change
from items.event import Event
from items.mapper import ItemMapper
from items.table import OUTBOX

CLEARED_AT_ONCE: Final = 1_000

_MAPPER: Final = ItemMapper()


@dataclass(frozen=True, slots=True)
class Claim:
    """An event that one relay has to tell; `attempt` counts from 1."""

    number: int
    attempt: int
    event: Event


async def enqueue(connection: AsyncConnection, changes: Sequence[Change]) -> None:
    """Writes the events of the changes in the transaction that makes them, when their rows are locked."""
    if changes:
        rows = [_row(change) for change in changes]
        await connection.execute(insert(OUTBOX), rows if len(rows) > 1 else rows[0])


class Outbox:
    """Hands events out and keeps the book of them.

    Every verb raises ExternalServiceError when the database cannot be reached or does not answer in time, and
    DatabaseError when it fails in another way.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def claim(self, now: datetime, lease: timedelta, limit: int) -> Sequence[Claim]:
        """Returns events to be told, oldest first, at most one of an item; nobody else gets them during the lease."""
        first = OUTBOX.alias()
        earlier = OUTBOX.alias()
        waiting = (
            select(first.c.number)
            .where(first.c.told_at.is_(None), first.c.due_at <= now)
            .where(
                ~exists().where(
                    earlier.c.item_id == first.c.item_id,
                    earlier.c.told_at.is_(None),
                    earlier.c.number < first.c.number,
                )
            )
            .order_by(first.c.number)
            .limit(limit)
            .with_for_update(skip_locked=True, of=first)
        )
        chosen = waiting.cte("chosen")  # PostgreSQL does what a CTE says once, and a subquery as often as it likes
        claiming = (
            update(OUTBOX)
            .where(OUTBOX.c.number.in_(select(chosen.c.number)))
            .values(due_at=now + lease, attempts=OUTBOX.c.attempts + 1)
            .returning(*OUTBOX.c)
        )
        with translated_errors():
            async with self._engine.begin() as connection:
                rows = (await connection.execute(claiming)).all()
        claims = [
            Claim(row.number, row.attempts, Event(row.event_id, row.item_id, row.payload, row.at)) for row in rows
        ]
        return sorted(claims, key=lambda claim: claim.number)

    async def told(self, claims: Sequence[Claim], now: datetime) -> None:
        """Notes that the events were told: the next ones of their items may be."""
        if claims:
            statement = update(OUTBOX).where(OUTBOX.c.number.in_([claim.number for claim in claims]))
            await self._write(statement.values(told_at=now))

    async def failed(self, claim: Claim, again: datetime) -> None:
        """Gives the event back, to be told not before `again`; if somebody else has it by now, he keeps it."""
        mine = (OUTBOX.c.number == claim.number, OUTBOX.c.attempts == claim.attempt, OUTBOX.c.told_at.is_(None))
        await self._write(update(OUTBOX).where(*mine).values(due_at=again))

    async def oldest(self) -> datetime | None:
        """Returns since when the first event that is not told waits."""
        first = select(OUTBOX.c.at).where(OUTBOX.c.told_at.is_(None)).order_by(OUTBOX.c.number).limit(1)
        with translated_errors():
            rows = await Reader(self._engine).rows(first)
        return rows[0].at if rows else None

    async def clear(self, before: datetime) -> int:
        """Forgets events told before that time; returns how many, at most CLEARED_AT_ONCE."""
        old = select(OUTBOX.c.number).where(OUTBOX.c.told_at < before).limit(CLEARED_AT_ONCE)
        return await self._write(delete(OUTBOX).where(OUTBOX.c.number.in_(old)))

    async def _write(self, statement: Any) -> int:
        with translated_errors():
            async with self._engine.begin() as connection:
                return int((await connection.execute(statement)).rowcount)


def _row(change: Change) -> dict[str, Any]:
    payload = _MAPPER.change_to_proto(change).SerializeToString()
    return {
        "event_id": new_id(),
        "item_id": change.item.id,
        "payload": payload,
        "at": change.at,
        "due_at": change.at,
    }
