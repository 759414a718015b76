"""Events about letters that are carried around, and publishers that the tests look at."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Final

from sqlalchemy import MetaData, Table, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.database.constraint_names import NAMES
from grpc_common.database.engine import Limits
from grpc_common.new_id import new_id
from grpc_common.outbox.event import Event
from grpc_common.outbox.outbox import enqueue
from grpc_common.outbox.relay import RelayLimits
from grpc_common.outbox.table import outbox_table

METADATA: Final = MetaData(naming_convention=NAMES)
LETTERS: Final = outbox_table("letter_outbox", METADATA)
STAMPS: Final = outbox_table("stamp_outbox", METADATA, subject="stamp_id")
"""A second one, where the database calls the subject by another name."""

LIMITS: Final = RelayLimits(poll=0.05, timeout=5, pause=60, kept=3600, lag=30, at_once=10)
DATABASE: Final = Limits(connections=2, pool_timeout=5, connect_timeout=5, statement_timeout=5, slow_query=5)

real = partial(datetime.now, UTC)


class Told:
    """A publisher that keeps what it is told, and refuses the subjects it is told to refuse."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.refused: set[str] = set()
        self.attempts = 0
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.asked = asyncio.Event()

    async def publish(self, event: Event) -> None:
        self.attempts += 1
        self.asked.set()
        await self.may_go_on.wait()
        await asyncio.sleep(random.choice([0, 0.001, 0.005]))  # noqa: S311  # a later one may overtake
        if event.subject in self.refused:
            raise ConnectionError("nobody listens")
        self.events.append(event)

    def by_subject(self) -> Mapping[str, Sequence[bytes]]:
        found = defaultdict(list)
        for event in self.events:
            found[event.subject].append(event.payload)
        return found


async def write(engine: AsyncEngine, table: Table, *subjects: str, count: int = 1) -> None:
    """Writes one event of each subject in one transaction, `count` times."""
    for number in range(count):
        async with engine.begin() as connection:
            payload = str(number).encode()
            await enqueue(connection, table, [Event(new_id(), subject, payload, real()) for subject in subjects])


async def written(engine: AsyncEngine, table: Table, *, subjects: int, count: int) -> Mapping[str, Sequence[bytes]]:
    """Writes `count` events, one after the other, of each of so many subjects at once; returns what is to be told."""
    ids = [new_id() for _ in range(subjects)]
    await asyncio.gather(*(write(engine, table, subject, count=count) for subject in ids))
    return {subject: [str(number).encode() for number in range(count)] for subject in ids}


async def rows(engine: AsyncEngine, table: Table) -> int:
    async with engine.connect() as connection:
        return (await connection.execute(select(func.count()).select_from(table))).scalar_one()


async def untold(engine: AsyncEngine, table: Table) -> int:
    async with engine.connect() as connection:
        counting = select(func.count()).select_from(table).where(table.c.told_at.is_(None))
        return (await connection.execute(counting)).scalar_one()


async def until_told(engine: AsyncEngine, table: Table, left: int = 0) -> None:
    async with asyncio.timeout(60):
        while await untold(engine, table) > left:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
