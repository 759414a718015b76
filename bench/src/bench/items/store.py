"""The databases that the contestants work on."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

import asyncpg
from sqlalchemy import make_url

SMALL: Final = 1_000
LARGE: Final = 1_000_000
NOW: Final = datetime(2026, 1, 2, tzinfo=UTC)
COLUMNS: Final = (
    "id", "name", "description", "sku", "quantity", "price", "is_active", "created_at", "updated_at", "version",
)  # fmt: skip


def item_id(number: int) -> str:
    """Return the id of a seeded item; ids sort as they would by time."""
    return f"018f3f6e-{number >> 16:04x}-7{number & 0xFFF:03x}-8000-{number:012x}"


async def connect(url: str) -> "asyncpg.Connection[Any]":
    """Connect to a database by SQLAlchemy's url."""
    return await asyncpg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))


async def seed(url: str, count: int) -> None:
    """Fill the empty items table by COPY."""
    connection = await connect(url)
    rows = _rows(count)
    try:
        while batch := list(islice(rows, 50_000)):
            await connection.copy_records_to_table("items", records=batch, columns=COLUMNS)
        await connection.execute("VACUUM ANALYZE items")
    finally:
        await connection.close()


async def clear(url: str) -> None:
    """Remove what the turns before created and wrote, so that every turn begins alike."""
    connection = await connect(url)
    try:
        await connection.execute("DELETE FROM items WHERE sku LIKE 'new-%'")
        await connection.execute("TRUNCATE item_changes")
        await connection.execute("VACUUM items")
    finally:
        await connection.close()


def _rows(count: int) -> Iterator[tuple[Any, ...]]:
    for number in range(count):
        at = NOW + timedelta(microseconds=number)
        price = (number % 10_000) / 100
        sku = f"mug-{number:08d}"
        yield (item_id(number), f"Stoneware mug {number}", "350 ml", sku, 42, price, True, at, at, number)
