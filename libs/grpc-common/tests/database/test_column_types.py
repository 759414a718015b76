"""Both databases give back what they were given."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.ext.asyncio import AsyncEngine

from database.lamps import LAMPS
from grpc_common.database.column_types import can_hold
from grpc_common.database.reader import Reader

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=-9, minutes=-30)))


async def test_a_time_comes_back_to_the_microsecond_and_in_utc(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(insert(LAMPS).values(id="1", made_at=MOMENT))

    ((made_at,),) = await Reader(engine).rows(select(LAMPS.c.made_at))

    assert (made_at, made_at.tzinfo) == (MOMENT, UTC)


async def test_a_time_without_a_zone_is_refused(engine: AsyncEngine) -> None:
    with pytest.raises(StatementError, match="a time without a time zone"):
        async with engine.begin() as connection:
            await connection.execute(insert(LAMPS).values(id="1", made_at=MOMENT.replace(tzinfo=None)))


async def test_codes_are_sorted_byte_by_byte(engine: AsyncEngine) -> None:
    codes = ["a-1", "Z", "ä", "a", "A", "a1", "é", "🧑"]
    async with engine.begin() as connection:
        await connection.execute(insert(LAMPS), [{"id": code} for code in codes])

    found = await Reader(engine).rows(select(LAMPS.c.id).order_by(LAMPS.c.id))

    assert [row.id for row in found] == sorted(codes, key=str.encode)


@pytest.mark.parametrize("kind", ["postgresql"], scope="session")
async def test_the_order_of_codes_is_not_that_of_the_database(engine: AsyncEngine, kind: str) -> None:
    collations = text(
        "SELECT collation_name FROM information_schema.columns WHERE table_name = 'lamps' AND column_name = 'id'"
    )
    assert await Reader(engine).rows(collations) == [("C",)]


@pytest.mark.parametrize(
    "value", ["", "a", "\x01\x7f", "é🧑\u202e", "\ud7ff\ue000\uffff", "a\0b", "\0", "\ud800", "\udfff"]
)
async def test_what_both_databases_can_hold_is_known(engine: AsyncEngine, value: str) -> None:
    async def is_held() -> bool:
        try:
            async with engine.begin() as connection:
                await connection.execute(insert(LAMPS).values(id=value))
        except (DBAPIError, UnicodeEncodeError):
            return False
        return [row.id for row in await Reader(engine).rows(select(LAMPS.c.id))] == [value]

    if can_hold(value):
        assert await is_held()
    elif engine.dialect.name == "postgresql":
        assert not await is_held()
