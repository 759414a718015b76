"""Events that are to be told, written in the transaction of the change and kept until they are.

Of each subject only the first event that is not told is ever handed out, and while it is claimed nobody else gets it:
so its events leave one by one, however many relays there are. A claim ends by itself when its relay is dead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Table, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from grpc_common.database.deletion import delete_some
from grpc_common.database.driver_errors import translated_errors
from grpc_common.database.reader import Reader
from grpc_common.outbox.event import Event

CLEARED_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Claim:
    """An event that one relay has to tell; `attempt` counts from 1."""

    number: int
    attempt: int
    event: Event


async def enqueue(connection: AsyncConnection, table: Table, events: Sequence[Event]) -> None:
    """Writes the events into a table (`outbox_table`), in the transaction of what they tell and when the rows of their
    subjects are locked: events of one subject are told in the order of these calls.
    """
    if events:
        rows = [_row(event) for event in events]
        await connection.execute(insert(table), rows if len(rows) > 1 else rows[0])


class Outbox:
    """Hands the events of a table (`outbox_table`) out and keeps the book of them.

    Every verb raises ExternalServiceError when the database cannot be reached or does not answer in time, and
    DatabaseError when it fails in another way.
    """

    def __init__(self, engine: AsyncEngine, table: Table) -> None:
        self._engine = engine
        self._table = table

    async def claim(self, now: datetime, lease: timedelta, limit: int) -> Sequence[Claim]:
        """Returns events to be told, oldest first, at most one of a subject; nobody else gets them during the lease."""
        columns = self._table.c
        first = self._table.alias()
        earlier = self._table.alias()
        waiting = (
            select(first.c.number)
            .where(first.c.told_at.is_(None), first.c.due_at <= now)
            .where(
                ~exists().where(
                    earlier.c.subject == first.c.subject,
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
            update(self._table)
            .where(columns.number.in_(select(chosen.c.number)))
            .values(due_at=now + lease, attempts=columns.attempts + 1)
            .returning(
                columns.number,
                columns.attempts,
                columns.event_id,
                columns.subject.label("subject"),  # whatever the database calls it
                columns.payload,
                columns.at,
            )
        )
        with translated_errors():
            async with self._engine.begin() as connection:
                rows = (await connection.execute(claiming)).all()
        claims = [
            Claim(row.number, row.attempts, Event(row.event_id, row.subject, row.payload, row.at)) for row in rows
        ]
        return sorted(claims, key=lambda claim: claim.number)

    async def told(self, claims: Sequence[Claim], now: datetime) -> None:
        """Notes that the events were told: the next ones of their subjects may be."""
        if claims:
            statement = update(self._table).where(self._table.c.number.in_([claim.number for claim in claims]))
            await self._write(statement.values(told_at=now))

    async def failed(self, claim: Claim, again: datetime) -> None:
        """Gives the event back, to be told not before `again`; if somebody else has it by now, he keeps it."""
        columns = self._table.c
        mine = (columns.number == claim.number, columns.attempts == claim.attempt, columns.told_at.is_(None))
        await self._write(update(self._table).where(*mine).values(due_at=again))

    async def oldest(self) -> datetime | None:
        """Returns since when the first event that is not told waits."""
        columns = self._table.c
        first = select(columns.at).where(columns.told_at.is_(None)).order_by(columns.number).limit(1)
        with translated_errors():
            rows = await Reader(self._engine).rows(first)
        return rows[0].at if rows else None

    async def clear(self, before: datetime) -> int:
        """Forgets events told before that time; returns how many, at most CLEARED_AT_ONCE."""
        with translated_errors():
            async with self._engine.begin() as connection:
                return await delete_some(connection, self._table, self._table.c.told_at < before, CLEARED_AT_ONCE)

    async def _write(self, statement: Any) -> None:
        with translated_errors():
            async with self._engine.begin() as connection:
                await connection.execute(statement)


def _row(event: Event) -> dict[str, Any]:
    return {
        "event_id": event.id,
        "subject": event.subject,
        "payload": event.payload,
        "at": event.at,
        "due_at": event.at,
    }
