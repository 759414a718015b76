"""A package's migrations, whatever happens while they run."""

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic_settings import SettingsConfigDict
from sqlalchemy import Connection, inspect, text

from grpc_common.database.engine import Limits, open_engine
from grpc_common.database.migrations import Migrations
from grpc_common.database.settings import DatabaseSettings
from grpc_common.errors import DatabaseError, ExternalServiceError

ENVIRONMENT = """
from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
"""
STEPS = {
    "0001": "CREATE TABLE lamps (id INTEGER)",
    "0002": "CREATE TABLE shades (id INTEGER)",
}
STEP = """
from alembic import op

revision = "{revision}"
down_revision = {before!r}


def upgrade():
    op.execute("{statement}")


def downgrade():
    op.execute("DROP TABLE {table}")
"""


class LampSettings(DatabaseSettings):
    model_config = SettingsConfigDict(env_prefix="LAMPS_")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name means something to who reads it as a pattern."""
    folder = tmp_path_factory.mktemp("lamps") / "100%(here)s"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENVIRONMENT)
    before = None
    for revision, statement in STEPS.items():
        step = STEP.format(revision=revision, before=before, statement=statement, table=statement.split()[2])
        (folder / "versions" / f"{revision}.py").write_text(step)
        before = revision
    return folder


@pytest.fixture
def migrations(folder: Path) -> Migrations:
    return Migrations("many_kinds_of_lamps", folder)


@pytest_asyncio.fixture
async def empty(new_database: Callable[[], Any]) -> str:
    """The url of a database with nothing in it."""
    return str(await new_database())


async def tables(url: str, limits: Limits) -> set[str]:
    def names(connection: Connection) -> set[str]:
        return set(inspect(connection).get_table_names())

    async with open_engine(url, limits) as engine, engine.connect() as connection:
        return await connection.run_sync(names)


async def execute(url: str, limits: Limits, statement: str) -> None:
    async with open_engine(url, limits) as engine, engine.begin() as connection:
        await connection.execute(text(statement))


async def test_several_migrate_at_once(migrations: Migrations, empty: str, limits: Limits) -> None:
    await asyncio.wait_for(asyncio.gather(*(migrations.upgrade(empty) for _ in range(8))), 30)

    assert await tables(empty, limits) == {"alembic_version", "lamps", "shades"}


async def test_down_and_up_again(migrations: Migrations, empty: str, limits: Limits) -> None:
    await migrations.upgrade(empty)

    await migrations.downgrade(empty, "0001")
    assert await tables(empty, limits) == {"alembic_version", "lamps"}

    await migrations.upgrade(empty)
    assert await tables(empty, limits) == {"alembic_version", "lamps", "shades"}


async def test_a_migration_that_fails_leaves_nothing_behind(migrations: Migrations, empty: str, limits: Limits) -> None:
    """Nor does the one before it, which did not."""
    await execute(empty, limits, "CREATE TABLE shades (something_else INTEGER)")

    with pytest.raises(DatabaseError):
        await migrations.upgrade(empty)

    assert await tables(empty, limits) == {"shades"}


async def test_a_database_that_lacks_migrations_is_not_served(
    migrations: Migrations, empty: str, limits: Limits
) -> None:
    async with open_engine(empty, limits) as engine:
        with pytest.raises(DatabaseError, match=r"run python -m many_kinds_of_lamps\.migrate first"):
            await migrations.require_current(engine)

        await migrations.upgrade(empty)
        await migrations.require_current(engine)

        await migrations.downgrade(empty, "0001")
        with pytest.raises(DatabaseError, match=r"run python -m many_kinds_of_lamps\.migrate first"):
            await migrations.require_current(engine)


async def test_a_database_ahead_of_this_version_is_served(migrations: Migrations, empty: str, limits: Limits) -> None:
    await migrations.upgrade(empty)
    await execute(empty, limits, "UPDATE alembic_version SET version_num = 'a later one'")

    # Also by a process that migrates first: the old version is started again in the midst of an upgrade, and after it
    # was taken back.
    await migrations.upgrade(empty)
    async with open_engine(empty, limits) as engine:
        await migrations.require_current(engine)
    assert await tables(empty, limits) == {"alembic_version", "lamps", "shades"}


async def test_an_unreachable_database_is_an_error_of_the_outside(migrations: Migrations) -> None:
    with pytest.raises(ExternalServiceError):
        await migrations.upgrade("postgresql+asyncpg://lamps@127.0.0.1:1/lamps")


def test_the_program_migrates_and_says_why_it_cannot(
    migrations: Migrations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAMPS_DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path}/lamps.db")
    migrations.main(LampSettings)
    assert (tmp_path / "lamps.db").is_file()

    monkeypatch.setenv("LAMPS_DATABASE_URL", "postgresql+asyncpg://lamps:hunter2@127.0.0.1:1/lamps")
    with pytest.raises(SystemExit) as ended:
        migrations.main(LampSettings)
    assert str(ended.value).startswith("cannot connect to the database postgresql+asyncpg://lamps@127.0.0.1:1/lamps: ")

    monkeypatch.setenv("LAMPS_DATABASE_URI", "x")
    with pytest.raises(SystemExit) as ended:
        migrations.main(LampSettings)
    assert ended.value.code == 2
    assert "LAMPS_DATABASE_URI is not a setting of this service" in capsys.readouterr().err


async def test_a_sqlite_file_that_it_makes_is_for_its_owner_alone(migrations: Migrations, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        await migrations.upgrade(f"sqlite+aiosqlite:///{tmp_path}/lamps.db")
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "lamps.db").stat().st_mode) == 0o600
