"""The migrations make the schema that the code expects, whatever happens while they run."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from people import NOW, a_client, happened
from sqlalchemy import Connection, Row, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from auth.audit import Kind
from auth.listed import USER_LIST
from auth.migrate import MIGRATIONS
from auth.sql_clients import SqlClients
from auth.table import ADMINISTRATORS, CLIENTS, METADATA, TOKEN_SECRETS, row_of_client
from grpc_common.database.engine import Limits, open_engine
from grpc_common.database.schema import differences, tables
from grpc_common.errors import ConflictError, DatabaseError
from grpc_common.listing.page_token_secrets import load_page_tokens
from localmesh import child
from localmesh.fixtures import NewDatabase

TABLES = {
    "administrators",
    "auth_outbox",
    "auth_token_secrets",
    "clients",
    "families",
    "revocations",
    "session_epoch",
    "users",
}


@pytest_asyncio.fixture
async def url(new_database: NewDatabase) -> str:
    """The url of a database with nothing in it."""
    return await new_database()


async def ask[T](url: str, limits: Limits, question: Callable[[Connection], T]) -> T:
    async with open_engine(url, limits) as engine, engine.connect() as connection:
        return await connection.run_sync(question)


@pytest.mark.filterwarnings("ignore:Computed default")  # PostgreSQL writes it in its own way; the next test compares it
async def test_autogenerate_finds_no_difference(url: str, limits: Limits) -> None:
    await MIGRATIONS.upgrade(url)

    assert await ask(url, limits, lambda connection: differences(connection, METADATA)) == []


async def test_the_migrated_schema_is_the_one_the_tables_would_make(
    url: str, new_database: NewDatabase, limits: Limits
) -> None:
    await MIGRATIONS.upgrade(url)
    made = await new_database()
    async with open_engine(made, limits) as engine, engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)

    migrated = await ask(url, limits, tables)

    assert set(migrated) == TABLES
    assert migrated == await ask(made, limits, tables)


async def test_migrating_again_changes_nothing_and_keeps_what_is_there(url: str, limits: Limits) -> None:
    await MIGRATIONS.upgrade(url)
    async with open_engine(url, limits) as engine, engine.begin() as connection:
        await connection.execute(text("UPDATE administrators SET first_id = 'u-1'"))
        there = await everything(connection)

    await MIGRATIONS.upgrade(url)

    async with open_engine(url, limits) as engine, engine.begin() as connection:
        assert await everything(connection) == there


async def everything(connection: AsyncConnection) -> Sequence[Row[Any]]:
    """The rows that a migration has made."""
    found = [await connection.execute(select(table)) for table in (ADMINISTRATORS, TOKEN_SECRETS)]
    return [row for rows in found for row in rows]


async def test_clients_that_differ_by_capital_letters_stay_and_get_no_more_like_them(url: str, limits: Limits) -> None:
    await MIGRATIONS.upgrade(url)
    await MIGRATIONS.downgrade(url, "0001")
    async with open_engine(url, limits) as engine:
        async with engine.begin() as connection:
            for client_id, day in (("Billing", 2), ("billing", 1), ("BILLING", 1), ("..", 3)):
                row = row_of_client(a_client(client_id, created_at=NOW.replace(day=day)))
                old = {name: value for name, value in row.items() if name != "folded"}
                await connection.execute(insert(CLIENTS).values(old))
        await MIGRATIONS.upgrade(url)

        clients = SqlClients(engine)
        for client_id in ("Billing", "billing", "BILLING", ".."):
            assert await clients.get(client_id) is not None
        with pytest.raises(ConflictError):
            await clients.add(a_client("bILLING"), happened(Kind.CLIENT_CREATED))
        for client_id in ("BILLING", "Billing", "billing", ".."):
            await clients.delete(client_id, happened(Kind.CLIENT_DELETED))
        await clients.add(a_client("bILLING"), happened(Kind.CLIENT_CREATED))


async def test_down_and_up_again(url: str, limits: Limits) -> None:
    await MIGRATIONS.upgrade(url)
    there = await ask(url, limits, tables)

    await MIGRATIONS.downgrade(url, "base")
    assert await ask(url, limits, tables) == {}

    await MIGRATIONS.upgrade(url)
    assert await ask(url, limits, tables) == there


async def test_several_processes_migrate_at_once(url: str, limits: Limits, tmp_path: Path) -> None:
    programs = [await migrate(tmp_path, url) for _ in range(3)]

    outcomes = await asyncio.gather(*map(child.end_of, programs))

    assert [status for status, _ in outcomes] == [0] * 3, outcomes
    assert set(await ask(url, limits, tables)) == TABLES
    rows = select(func.count()).select_from(TOKEN_SECRETS)
    assert await ask(url, limits, lambda connection: connection.execute(rows).scalar_one()) == 1


async def test_a_database_without_the_migrations_is_not_served(url: str, limits: Limits) -> None:
    async with open_engine(url, limits) as engine:
        with pytest.raises(DatabaseError, match=r"run python -m auth\.migrate first"):
            await MIGRATIONS.require_current(engine)

    await MIGRATIONS.upgrade(url)

    async with open_engine(url, limits) as engine:
        await MIGRATIONS.require_current(engine)


async def test_page_tokens_are_read_by_all_who_have_the_database(engine: AsyncEngine) -> None:
    query = USER_LIST
    token = (await load_page_tokens(engine, TOKEN_SECRETS)).write(query, ("alice",))

    assert (await load_page_tokens(engine, TOKEN_SECRETS)).read(token, query) == ("alice",)


async def test_the_program_says_why_it_cannot_migrate_and_not_the_password(tmp_path: Path) -> None:
    status, lines = await child.end_of(await migrate(tmp_path, "postgresql+asyncpg://auth:hunter2@127.0.0.1:1/auth"))

    assert status == 1
    (line,) = lines
    assert line.startswith("cannot connect to the database postgresql+asyncpg://auth@127.0.0.1:1/auth: ")
    assert "hunter2" not in line


async def test_the_program_refuses_a_misspelt_setting(tmp_path: Path) -> None:
    program = await migrate(tmp_path, "sqlite+aiosqlite:///unused.db", AUTH_DATABASE_URI="x")

    status, lines = await child.end_of(program)

    assert status == 2
    assert lines[0].startswith("AUTH_DATABASE_URI is not a setting of this service; did you mean AUTH_DATABASE_URL?")
    assert not (tmp_path / "unused.db").exists()


async def migrate(folder: Path, url: str, **settings: str) -> asyncio.subprocess.Process:
    return await child.start("auth.migrate", folder, AUTH_DATABASE_URL=url, **settings)
