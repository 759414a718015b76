"""The log of changes: written with each change, read in the order of commits.

A change is written in the transaction that makes it, with a number out of a sequence. Numbers are given before the
commit, so a lower one may appear after a higher one has been read. Therefore a committed change is given a position, by
one transaction at a time (`place`), and readers go by positions: these have no gaps, and none appears below another
that was ever seen. Among the changes that one pass finds the numbers decide; of two changes of one item, and of two of
which one began after the other was committed, the later has the greater number and is never found without the earlier.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Subquery, and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from grpc_common.database.driver_errors import translated_errors
from grpc_common.database.reader import Reader
from grpc_common.new_id import new_id
from grpc_common.outbox.event import Event
from grpc_common.outbox.outbox import enqueue
from items.change import Change, ChangeKind
from items.item import Item
from items.mapper import ItemMapper
from items.table import CHANGES, HEAD, OUTBOX, row_of

PLACED_AT_ONCE: Final = 1_000
TRIMMED_AT_ONCE: Final = 1_000

_MAPPER: Final = ItemMapper()


@dataclass(frozen=True, slots=True)
class Head:
    """The last position given to a change, and the last one whose change is no longer kept; 0 before the first."""

    placed: int
    trimmed: int


@dataclass(frozen=True, slots=True)
class PlacedChange:
    """A change in its place."""

    position: int
    change: Change


@dataclass(frozen=True, slots=True)
class Slice:
    """Changes that follow each other, and the head of the log at the moment they were read."""

    head: Head
    changes: Sequence[PlacedChange]


async def record(connection: AsyncConnection, changes: Sequence[Change]) -> None:
    """Writes changes in the transaction that makes them; the last thing in it, when their rows are locked."""
    if changes:
        rows = [_row(change) for change in changes]
        await connection.execute(insert(CHANGES), rows if len(rows) > 1 else rows[0])
        await enqueue(connection, OUTBOX, [_event(change) for change in changes])


class ChangeLog:
    """Puts the committed changes in order, reads them and forgets the old ones.

    Every verb raises ExternalServiceError when the database cannot be reached or does not answer in time, and
    DatabaseError when it fails in another way.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reader = Reader(engine)

    async def place(self) -> int:
        """Gives positions to changes that have none, and returns how many: at most PLACED_AT_ONCE."""
        with translated_errors():
            waiting = select(CHANGES.c.number).where(CHANGES.c.position.is_(None)).limit(1)
            if not await self._reader.rows(waiting):
                return 0  # without a lock, which a writer may hold
            async with self._engine.begin() as connection:
                # Who has the head is alone; in SQLite every transaction that writes is.
                last = (await connection.execute(select(HEAD.c.placed).with_for_update())).scalar_one()
                fresh = _fresh()
                placing = (
                    update(CHANGES).where(CHANGES.c.number == fresh.c.number).values(position=last + fresh.c.place)
                )
                placed = (await connection.execute(placing)).rowcount
                await connection.execute(update(HEAD).values(placed=last + placed))
                return placed

    async def head(self) -> Head:
        """Returns how far the log goes, and from where on."""
        with translated_errors():
            (head,) = await self._reader.rows(select(HEAD.c.placed, HEAD.c.trimmed))
        return Head(head.placed, head.trimmed)

    async def read(self, after: int, limit: int) -> Slice:
        """Returns the next changes after a position."""
        reading = (
            select(HEAD.c.placed, HEAD.c.trimmed, *CHANGES.c)
            .select_from(HEAD)
            .outerjoin(CHANGES, and_(CHANGES.c.position > after, CHANGES.c.position <= HEAD.c.placed))
            .order_by(CHANGES.c.position)
            .limit(limit)
        )
        with translated_errors():
            rows = await self._reader.rows(reading)
        head = Head(rows[0].placed, rows[0].trimmed)
        return Slice(head, [_placed_change(row) for row in rows if row.position is not None])

    async def trim(self, before: datetime, most: int) -> int:
        """Forgets changes older than `before`, and the oldest of more than `most`; returns how many, at most
        TRIMMED_AT_ONCE. A change without a position is kept.
        """
        with translated_errors():
            async with self._engine.begin() as connection:
                head = Head(*(await connection.execute(select(HEAD.c.placed, HEAD.c.trimmed).with_for_update())).one())
                end = min(head.placed, head.trimmed + TRIMMED_AT_ONCE)
                young = select(func.min(CHANGES.c.position)).where(CHANGES.c.position <= end, CHANGES.c.at >= before)
                first_young = (await connection.execute(young)).scalar_one() or end + 1
                cut = min(end, max(first_young - 1, head.placed - most))
                if cut <= head.trimmed:
                    return 0
                await connection.execute(delete(CHANGES).where(CHANGES.c.position <= cut))
                await connection.execute(update(HEAD).values(trimmed=cut))
                return cut - head.trimmed


def _fresh() -> Subquery:
    unplaced = select(CHANGES.c.number).where(CHANGES.c.position.is_(None)).order_by(CHANGES.c.number)
    first = unplaced.limit(PLACED_AT_ONCE).subquery("first_unplaced")
    return select(first.c.number, func.row_number().over(order_by=first.c.number).label("place")).subquery("fresh")


def _row(change: Change) -> dict[str, Any]:
    row = row_of(change.item)
    row["item_id"] = row.pop("id")
    return {"kind": change.kind.value, "at": change.at, **row}


def _event(change: Change) -> Event:
    return Event(new_id(), change.item.id, _MAPPER.change_to_proto(change).SerializeToString(), change.at)


def _placed_change(row: Any) -> PlacedChange:
    item = Item(id=row.item_id, **{field: getattr(row, field) for field in _ITEM_FIELDS})
    return PlacedChange(row.position, Change(ChangeKind(row.kind), item, row.at))


_ITEM_FIELDS: Final = [field for field in Item.__dataclass_fields__ if field != "id"]
