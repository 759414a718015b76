"""What errors of the two databases mean to a caller."""

from typing import Any

import pytest
from sqlalchemy import Table, insert
from sqlalchemy.ext.asyncio import AsyncEngine

from database.lamps import LAMPS, LAMPS_SOLD
from grpc_common.database.driver_errors import translated_errors
from grpc_common.errors import ConflictError, DatabaseError

NOUNS = {"lamps": "lamp", "lamps_sold": "sale"}


async def write(engine: AsyncEngine, table: Table, *rows: dict[str, Any], nouns: dict[str, str] = NOUNS) -> None:
    with translated_errors(nouns):
        async with engine.begin() as connection:
            for row in rows:
                await connection.execute(insert(table).values(row))


@pytest.mark.parametrize(
    ("table", "rows", "message", "field"),
    [
        (LAMPS, ({"id": "1"}, {"id": "1"}), "another lamp has this id", "id"),
        (
            LAMPS,
            ({"id": "1", "serial_number": "x"}, {"id": "2", "serial_number": "x"}),
            "another lamp has this serial_number",
            "serial_number",
        ),
        (LAMPS_SOLD, ({"id": "1"}, {"id": "1", "receipt": 2}), "another sale has this id", "id"),
        (LAMPS_SOLD, ({"id": "1"}, {"id": "2"}), "another sale has this till", "till"),
    ],
)
async def test_a_value_that_another_row_has_is_a_conflict_about_its_field(
    engine: AsyncEngine, table: Table, rows: tuple[dict[str, Any], ...], message: str, field: str
) -> None:
    with pytest.raises(ConflictError) as conflict:
        await write(engine, table, *rows)

    assert (conflict.value.message, conflict.value.field) == (message, field)
    assert conflict.value.__cause__ is not None


@pytest.mark.parametrize("nouns", [{}, {"lamps": "lamp"}])
async def test_a_table_that_callers_do_not_know_has_no_conflicts(engine: AsyncEngine, nouns: dict[str, str]) -> None:
    with pytest.raises(DatabaseError):
        await write(engine, LAMPS_SOLD, {"id": "1"}, {"id": "1", "receipt": 2}, nouns=nouns)


@pytest.mark.parametrize(
    ("table", "row"),
    [(LAMPS, {"id": "1", "watts": -1}), (LAMPS, {"id": None}), (LAMPS_SOLD, {"id": "1", "lamp_id": "none"})],
)
async def test_another_constraint_is_no_conflict(engine: AsyncEngine, table: Table, row: dict[str, Any]) -> None:
    with pytest.raises(DatabaseError, match="the database failed"):
        await write(engine, table, row)
