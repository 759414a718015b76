"""The log of changes on PostgreSQL and on SQLite: nothing is skipped, nothing changes its place."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from grpc_common.new_id import new_id
from items.change import Change, ChangeKind
from items.changes import ChangeLog, Slice, record
from items.item import Item, ItemChange, NewItem, WholeItem
from items.repository import Addition
from items.sql import SqlItemRepository
from items.table import ITEMS, row_of

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def an_item(name: str) -> Item:
    return NewItem(name=name, description="", sku=new_id(), quantity=1, price=1).become(new_id(), NOW)


async def write(connection: AsyncConnection, name: str) -> None:
    item = an_item(name)
    await connection.execute(insert(ITEMS).values(row_of(item)))
    await record(connection, [Change(ChangeKind.CREATED, item, NOW)])


def names(slice_: Slice) -> list[str]:
    return [placed.change.item.name for placed in slice_.changes]


@pytest.fixture
def log(engine: AsyncEngine) -> ChangeLog:
    return ChangeLog(engine)


@pytest_asyncio.fixture
async def start(log: ChangeLog) -> AsyncIterator[int]:
    """The position before the changes of the test."""
    yield (await log.head()).placed


async def test_every_verb_leaves_its_change(engine: AsyncEngine, log: ChangeLog, start: int) -> None:
    repository = SqlItemRepository(engine)
    item = await repository.add(Addition(an_item("Lamp")))
    lantern = await repository.update(ItemChange(id=item.id, name="Lantern"), NOW + SECOND)
    wanted = WholeItem(
        id=item.id, name="Torch", description="", sku=item.sku, quantity=1, price=1, is_active=False, etag=""
    )
    torch = await repository.put(wanted, NOW + 2 * SECOND)
    await repository.delete(item.id, NOW + 3 * SECOND)

    assert await log.place() == 4
    found = await log.read(start, 10)

    assert [placed.position for placed in found.changes] == [start + 1, start + 2, start + 3, start + 4]
    assert [placed.change for placed in found.changes] == [
        Change(ChangeKind.CREATED, item, NOW),
        Change(ChangeKind.UPDATED, lantern, NOW + SECOND),
        Change(ChangeKind.UPDATED, torch, NOW + 2 * SECOND),
        Change(ChangeKind.DELETED, torch, NOW + 3 * SECOND),
    ]
    assert found.head.placed == start + 4


async def test_what_is_refused_leaves_no_change(engine: AsyncEngine, log: ChangeLog, start: int) -> None:
    repository = SqlItemRepository(engine)
    item = await repository.add(Addition(an_item("Lamp")))
    await log.place()

    outcomes = await asyncio.gather(
        repository.add(Addition(replace(an_item("Other"), sku=item.sku))),
        repository.update(ItemChange(id=item.id, name="Other", etag='"0"'), NOW),
        repository.delete(item.id, NOW, '"0"'),
        repository.delete("nobody", NOW),
        return_exceptions=True,
    )

    assert all(isinstance(outcome, Exception) for outcome in outcomes)
    assert await log.place() == 0


@pytest.mark.parametrize("kind", ["postgresql"], scope="session")
async def test_a_late_commit_with_a_lower_number_is_not_skipped(
    engine: AsyncEngine, log: ChangeLog, start: int, kind: str
) -> None:
    async with engine.connect() as slow, engine.connect() as quick:
        await write(slow, "first written")
        await write(quick, "second written")
        await quick.commit()

        await log.place()
        before = await log.read(start, 10)
        await slow.commit()
        await log.place()
        after = await log.read(before.changes[-1].position, 10)

    assert names(before) == ["second written"]
    assert names(after) == ["first written"]


@pytest.mark.parametrize("kind", ["postgresql"], scope="session")
async def test_a_transaction_that_never_ends_holds_nobody_up(
    engine: AsyncEngine, log: ChangeLog, start: int, kind: str
) -> None:
    async with engine.connect() as endless, engine.begin() as other:
        await write(endless, "never committed")
        await write(other, "committed")
        await other.commit()

        await log.place()

        assert names(await log.read(start, 10)) == ["committed"]


async def test_what_is_rolled_back_leaves_no_gap(engine: AsyncEngine, log: ChangeLog, start: int) -> None:
    for name in ("one", "undone", "two"):
        async with engine.connect() as connection:
            await write(connection, name)
            if name != "undone":
                await connection.commit()
    await log.place()

    found = await log.read(start, 10)

    assert [(placed.position - start, placed.change.item.name) for placed in found.changes] == [(1, "one"), (2, "two")]


async def test_many_writers_many_who_place_and_a_reader(engine: AsyncEngine, log: ChangeLog, start: int) -> None:
    """Whoever follows the positions sees each change once, and those of one item in their order."""
    repository = SqlItemRepository(engine)
    rounds, writers = 15, 4
    items = [await repository.add(Addition(an_item(f"item {number}"))) for number in range(writers)]
    done = asyncio.Event()

    async def change(item: Item) -> None:
        for number in range(rounds):
            await repository.update(ItemChange(id=item.id, quantity=number), NOW)

    async def place() -> None:
        while not done.is_set():
            await log.place()
            await asyncio.sleep(0)

    async def follow() -> list[tuple[str, int]]:
        position, seen = start, list[tuple[str, int]]()
        while len(seen) < writers * (rounds + 1):
            for placed in (await log.read(position, 7)).changes:
                assert placed.position == position + 1
                position = placed.position
                seen.append((placed.change.item.id, placed.change.item.version))
            await asyncio.sleep(0)
        return seen

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        placers = [group.create_task(place()) for _ in range(2)]
        reader = group.create_task(follow())
        await asyncio.gather(*(change(item) for item in items))
        seen = await reader
        done.set()
        await asyncio.gather(*placers)

    for item in items:
        versions = [version for item_id, version in seen if item_id == item.id]
        assert versions == [item.version + step for step in range(rounds + 1)]


@given(kept=st.integers(0, 12), old=st.integers(0, 12), most=st.integers(0, 15))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_trimming_keeps_the_young_and_no_more_than_the_most(
    engine: AsyncEngine, log: ChangeLog, kept: int, old: int, most: int
) -> None:
    async with engine.begin() as connection:
        changes = [
            Change(ChangeKind.UPDATED, an_item(str(number)), NOW + SECOND if number >= old else NOW - SECOND)
            for number in range(old + kept)
        ]
        await record(connection, changes)
    while await log.place():
        pass
    end = (await log.head()).placed

    while await log.trim(NOW, most):
        pass

    left = await log.read(end - old - kept, 100)
    expected = min(kept, most)
    assert names(left) == [str(number) for number in range(old + kept - expected, old + kept)]
    if old + kept:
        assert left.head.trimmed == end - expected
    while await log.trim(NOW + 2 * SECOND, 0):
        pass
