"""A change and the event that tells of it are kept together or not at all, whenever a process dies or a call ends."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import dying_change
import pytest
import pytest_asyncio
from emptying import empty
from people import a_client, a_user, happened
from sqlalchemy import Row, event, select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from told import told

from auth.audit import Kind
from auth.sql_clients import SqlClients
from auth.sql_families import SqlFamilies
from auth.sql_users import SqlUsers
from auth.table import METADATA, OUTBOX, SESSION_EPOCH, TOKEN_SECRETS
from grpc_common.database.engine import open_engine
from localmesh import child

AUDIT = dying_change.VERBS - 1
"""The last verb, which changes nothing but writes an event."""


@pytest_asyncio.fixture
async def full(engine: AsyncEngine) -> AsyncEngine:
    """The database with those whom the verbs are about, and with no event."""
    return await fill(engine)


async def fill(engine: AsyncEngine) -> AsyncEngine:
    await empty(engine)
    await SqlUsers(engine).add(a_user(id="alice"), happened(Kind.USER_CREATED))
    await SqlClients(engine).add(a_client("billing"), happened(Kind.CLIENT_CREATED))
    for number, subject in enumerate(["alice", "alice", "alice", "carol"]):
        await SqlFamilies(engine).add(replace(dying_change.FAMILY, id=f"{number}" * 32, subject=subject))
    async with engine.begin() as connection:
        await connection.execute(OUTBOX.delete())
    return engine


async def state(engine: AsyncEngine) -> Mapping[str, Sequence[Row[Any]]]:
    """What is in each table, once nobody is writing any more."""
    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":  # on SQLite the beginning itself waits for who is writing
            await connection.execute(text(f"LOCK TABLE {', '.join(METADATA.tables)} IN SHARE MODE"))
        return {
            name: (await connection.execute(select(table).order_by(*table.primary_key))).all()
            for name, table in METADATA.tables.items()
        }


async def kill(url: str, moment: str) -> None:
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        dying_change.__file__,
        moment,
        env=child.environment(DATABASE=url),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await program.communicate()
    assert program.returncode == 0, errors.decode()


@pytest.mark.parametrize("moment", ["change", "event"])
async def test_who_is_killed_before_the_commit_leaves_neither(
    full: AsyncEngine, migrated_url: str, moment: str
) -> None:
    before = await state(full)

    await kill(migrated_url, moment)

    assert await state(full) == before


async def test_killed_after_the_commit_leaves_both(full: AsyncEngine, migrated_url: str) -> None:
    before = await state(full)

    await kill(migrated_url, "commit")

    after = await state(full)
    assert [each.kind for each in await told(full)] == dying_change.TOLD
    assert {table for table in before if after[table] == before[table]} == {TOKEN_SECRETS.name, SESSION_EPOCH.name}


@pytest.mark.parametrize("number", range(AUDIT + 1))
async def test_a_call_that_is_given_up_leaves_both_or_neither(
    engine: AsyncEngine, migrated_url: str, number: int
) -> None:
    """At each step of it, one after the other, and the connection is free again."""
    for steps in count(1):
        before = await state(await fill(engine))
        async with open_engine(migrated_url, dying_change.LIMITS) as other:
            left = cancelled_after(other, steps)
            call = asyncio.create_task(verb(other, number))
            await asyncio.wait([call])
            await SqlUsers(other).page("", 1)

        changed = {name for name, rows in (await state(engine)).items() if rows != before[name]}
        assert (OUTBOX.name in changed) == bool(changed - {OUTBOX.name}) or number == AUDIT
        if left():
            assert not call.cancelled()
            assert OUTBOX.name in changed
            break
        assert call.cancelled()
    assert steps > 3


async def verb(engine: AsyncEngine, number: int) -> None:
    await dying_change.Dying(engine, lambda: None).verbs[number]()


def cancelled_after(engine: AsyncEngine, steps: int) -> Callable[[], int]:
    """Have another task cancelled at that step on the database; return what says how many it has not come to."""
    left, ours = [steps], asyncio.current_task()

    def step(*_: object) -> None:
        task = asyncio.current_task()
        if task is not None and task is not ours:
            left[0] -= 1
            if left[0] == 0:
                task.cancel()

    for name in ("begin", "before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(engine.sync_engine, name, step)
    return lambda: max(left[0], 0)
