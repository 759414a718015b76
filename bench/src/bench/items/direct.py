"""The database without the service: `python -m bench.items.direct asyncpg|sqlmodel`, its url in BENCH_DATABASE_URL.

Reads lines `VERB SECONDS ITEMS` and answers each with one line of JSON. Does what the service does for the verb, the
record of the change included, with as many at once and as many connections, and gives what it found to nobody.
"""

import asyncio
import itertools
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import asyncpg
import psutil
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from bench.contestant import SERVER_CORE, pin
from bench.items.store import COLUMNS, item_id
from bench.load import cpu_seconds
from bench.rounds import Turn
from grpc_common.new_id import new_id
from items.table import CHANGES, ItemRow

CONCURRENCY: Final = 16
CONNECTIONS: Final = 10
PAGE: Final = 51
LISTED: Final = 500
_NEW: Final = itertools.count()

ITEM: Final = ", ".join(COLUMNS)
CHANGE: Final = ITEM.replace("id,", "item_id,", 1)
PLACES: Final = [f"${number}" for number in range(1, len(COLUMNS) + 3)]
INSERT: Final = f"INSERT INTO items ({ITEM}) VALUES ({', '.join(PLACES[:-2])})"  # noqa: S608
INSERT_CHANGE: Final = f"INSERT INTO item_changes (kind, at, {CHANGE}) VALUES ({', '.join(PLACES)})"  # noqa: S608


class Verbs(Protocol):
    """What a contestant can do; each returns how many items came of it."""

    async def get(self, key: str) -> int: ...
    async def create(self, key: str) -> int: ...
    async def update(self, key: str) -> int: ...
    async def search(self, key: str) -> int: ...
    async def list(self, key: str) -> int: ...


class Asyncpg:
    """The statements of the service, prepared by the driver."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def get(self, key: str) -> int:
        """Read one."""
        async with self._pool.acquire() as connection:
            row = await connection.fetchrow(f"SELECT {ITEM} FROM items WHERE id = $1", key)  # noqa: S608
        return len({**row}) // len(COLUMNS)

    async def create(self, key: str) -> int:  # noqa: ARG002
        """Write one, and the change."""
        item = _new_item()
        values = [item[column] for column in COLUMNS]
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.fetchrow(f"{INSERT} ON CONFLICT DO NOTHING RETURNING id", *values)
            await connection.execute(INSERT_CHANGE, "created", item["created_at"], *values)
        return 1

    async def update(self, key: str) -> int:
        """Change one, and write the change."""
        now = datetime.now(UTC)
        changing = (
            "UPDATE items SET quantity = $2, updated_at = greatest(updated_at, $3), version = version + 1 "  # noqa: S608
            f"WHERE id = $1 RETURNING {ITEM}"
        )
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(changing, key, 7, now)
            await connection.execute(INSERT_CHANGE, "updated", now, *row)
        return 1

    async def search(self, key: str) -> int:
        """Read a page."""
        query = f"SELECT {ITEM} FROM items WHERE price > $1 AND id > $2 ORDER BY id LIMIT {PAGE}"  # noqa: S608
        async with self._pool.acquire() as connection:
            return len([{**row} for row in await connection.fetch(query, 5.0, key)]) and 1

    async def list(self, key: str) -> int:  # noqa: ARG002
        """Read many."""
        query = f"SELECT {ITEM} FROM items ORDER BY id LIMIT {LISTED}"  # noqa: S608
        async with self._pool.acquire() as connection:
            return len([{**row} for row in await connection.fetch(query)])


class Sqlmodel:
    """A session for each call, as SQLModel's documentation has it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def get(self, key: str) -> int:
        """Read one."""
        async with AsyncSession(self._engine) as session:
            return 1 if await session.get(ItemRow, key) else 0

    async def create(self, key: str) -> int:  # noqa: ARG002
        """Write one, and the change."""
        item = _new_item()
        async with AsyncSession(self._engine, expire_on_commit=False) as session:
            session.add(ItemRow(**item))
            await session.flush()
            await _change(session, "created", item)
            await session.commit()
        return 1

    async def update(self, key: str) -> int:
        """Change one, and write the change."""
        async with AsyncSession(self._engine, expire_on_commit=False) as session:
            row = (await session.exec(select(ItemRow).where(ItemRow.id == key).with_for_update())).one()
            row.quantity, row.updated_at, row.version = 7, datetime.now(UTC), row.version + 1
            session.add(row)
            await session.flush()
            await _change(session, "updated", row.model_dump())
            await session.commit()
        return 1

    async def search(self, key: str) -> int:
        """Read a page."""
        query = select(ItemRow).where(ItemRow.price > 5.0, ItemRow.id > key).order_by(ItemRow.id).limit(PAGE)
        async with AsyncSession(self._engine) as session:
            return len((await session.exec(query)).all()) and 1

    async def list(self, key: str) -> int:  # noqa: ARG002
        """Read many."""
        async with AsyncSession(self._engine) as session:
            return len((await session.exec(select(ItemRow).order_by(ItemRow.id).limit(LISTED))).all())


async def _change(session: AsyncSession, kind: str, item: dict[str, Any]) -> None:
    values = {column: item[column] for column in COLUMNS if column != "id"}
    connection = await session.connection()
    await connection.execute(CHANGES.insert().values(kind=kind, at=item["updated_at"], item_id=item["id"], **values))


def _new_item() -> dict[str, Any]:
    now = datetime.now(UTC)
    texts = {"id": new_id(), "name": "Stoneware mug", "description": "350 ml", "sku": f"new-{os.getpid()}-{next(_NEW)}"}
    return {
        **texts,
        "quantity": 42,
        "price": 12.5,
        "is_active": True,
        "created_at": now,
        "updated_at": now,
        "version": 1,
    }


async def turn(work: Callable[[str], Awaitable[int]], seconds: float, items: int, per_call: int) -> Turn:
    """Do it for that long, with CONCURRENCY at once."""
    latencies: list[float] = []
    process, end = psutil.Process(), time.perf_counter() + seconds

    async def caller() -> None:
        while (started := time.perf_counter()) < end:
            if await work(item_id(random.randrange(items))) != per_call:  # noqa: S311
                raise RuntimeError("a call found less than there is")
            latencies.append(time.perf_counter() - started)

    cpu, started = cpu_seconds(process), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(caller())
    elapsed, used, done = time.perf_counter() - started, cpu_seconds(process) - cpu, len(latencies) * per_call
    cuts = statistics.quantiles(latencies, n=100)
    return Turn(
        per_s=done / elapsed,
        p50_ms=cuts[49] * 1000,
        p99_ms=cuts[98] * 1000,
        cpu_s=used / done,
        rss_mb=process.memory_info().rss / 2**20,
    )


async def main() -> None:
    url = make_url(os.environ["BENCH_DATABASE_URL"])
    verbs: Verbs
    if sys.argv[1] == "asyncpg":
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        verbs = Asyncpg(await asyncpg.create_pool(plain, min_size=CONNECTIONS, max_size=CONNECTIONS))
    else:
        verbs = Sqlmodel(create_async_engine(url, pool_size=CONNECTIONS, max_overflow=0))
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        verb, seconds, items = line.split()
        measured = await turn(getattr(verbs, verb), float(seconds), int(items), LISTED if verb == "list" else 1)
        print(json.dumps(asdict(measured)), flush=True)


if __name__ == "__main__":
    pin(SERVER_CORE)
    asyncio.run(main())
