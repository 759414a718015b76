"""The migrations make the schema that the code expects, whatever happens while they run."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Connection, text

from grpc_common.database.engine import Limits, open_engine
from grpc_common.database.schema import differences, tables
from grpc_common.errors import DatabaseError
from items.migrate import MIGRATIONS
from items.table import ItemRow
from localmesh import child

TABLES = {"item_outbox", "items", "item_changes", "item_changes_head", "item_requests", "item_token_secrets"}


@pytest_asyncio.fixture
async def url(new_database: Callable[[], Any]) -> str:
    """The url of a database with nothing in it."""
    return str(await new_database())


async def ask[T](url: str, limits: Limits, question: Callable[[Connection], T]) -> T:
    async with open_engine(url, limits) as engine, engine.connect() as connection:
        return await connection.run_sync(question)


async def test_autogenerate_finds_no_difference(url: str, limits: Limits) -> None:
    await MIGRATIONS.upgrade(url)

    assert await ask(url, limits, lambda connection: differences(connection, ItemRow.metadata)) == []


async def test_the_migrated_schema_is_the_one_the_tables_would_make(
    url: str, new_database: Callable[[], Any], limits: Limits
) -> None:
    await MIGRATIONS.upgrade(url)
    made = await new_database()
    async with open_engine(made, limits) as engine, engine.begin() as connection:
        await connection.run_sync(ItemRow.metadata.create_all)

    migrated = await ask(url, limits, tables)

    assert set(migrated) == TABLES
    assert migrated == await ask(made, limits, tables)


async def test_migrating_again_changes_nothing_and_keeps_the_items(url: str, limits: Limits) -> None:
    await MIGRATIONS.upgrade(url)
    async with open_engine(url, limits) as engine, engine.begin() as connection:
        await connection.execute(text(AN_ITEM))

    await MIGRATIONS.upgrade(url)

    assert await ask(url, limits, lambda connection: connection.execute(text("SELECT id FROM items")).all()) == [("1",)]


async def test_down_and_up_again(url: str, limits: Limits) -> None:
    await MIGRATIONS.upgrade(url)
    there = await ask(url, limits, tables)

    await MIGRATIONS.downgrade(url, "base")
    assert await ask(url, limits, tables) == {}

    await MIGRATIONS.upgrade(url)
    assert await ask(url, limits, tables) == there


async def test_several_processes_migrate_at_once(url: str, limits: Limits) -> None:
    programs = [await run_migrate(url) for _ in range(3)]

    outcomes = await asyncio.gather(*(program.communicate() for program in programs))

    assert [program.returncode for program in programs] == [0] * 3, outcomes
    assert set(await ask(url, limits, tables)) == TABLES


async def test_a_database_without_the_migrations_is_not_served(url: str, limits: Limits) -> None:
    async with open_engine(url, limits) as engine:
        with pytest.raises(DatabaseError, match=r"run python -m items\.migrate first"):
            await MIGRATIONS.require_current(engine)

    await MIGRATIONS.upgrade(url)

    async with open_engine(url, limits) as engine:
        await MIGRATIONS.require_current(engine)


async def test_the_program_says_why_it_cannot_migrate_and_not_the_password() -> None:
    program = await run_migrate("postgresql+asyncpg://items:hunter2@127.0.0.1:1/items")

    _, errors = await program.communicate()

    assert program.returncode == 1
    assert errors.count(b"\n") == 1
    assert errors.startswith(b"cannot connect to the database postgresql+asyncpg://items@127.0.0.1:1/items: ")
    assert b"hunter2" not in errors


async def test_the_program_refuses_a_misspelt_setting() -> None:
    program = await run_migrate("sqlite+aiosqlite:///unused.db", ITEMS_DATABASE_URI="x")

    _, errors = await program.communicate()

    assert program.returncode == 2
    assert errors.startswith(b"ITEMS_DATABASE_URI is not a setting of this service; did you mean ITEMS_DATABASE_URL?")


AN_ITEM = """
    INSERT INTO items (id, name, description, sku, quantity, price, is_active, created_at, updated_at)
    VALUES ('1', 'Lamp', '', 'L-1', 0, 0, true, '2026-01-02 03:04:05', '2026-01-02 03:04:05')
"""


async def run_migrate(url: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "items.migrate",
        env=child.environment(ITEMS_DATABASE_URL=url, **environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
