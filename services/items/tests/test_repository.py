"""What every repository of items does, on PostgreSQL and on SQLite."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.database.engine import Limits, open_engine
from grpc_common.errors import ConflictError, DatabaseError, ExternalServiceError, NotFoundError
from grpc_common.new_id import new_id
from items.item import Item, ItemChange, NewItem
from items.repository import Addition, ItemRepository
from items.sql import SqlItemRepository
from items.table import ITEMS

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def an_item(sku: str = "L-1", **changes: Any) -> Item:
    item = NewItem(name="Lamp", description="of brass", sku=sku, quantity=3, price=9.5).become(new_id(), NOW)
    return replace(item, **changes)


async def rows(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return (await connection.execute(select(func.count()).select_from(ITEMS))).scalar_one()


async def test_what_is_added_is_there(repository: ItemRepository) -> None:
    item = an_item()

    await repository.add(Addition(item))

    assert await repository.get(item.id) == item


@pytest.mark.parametrize(
    "changes",
    [
        {"price": 0.1 + 0.2},
        {"price": 5e-324},
        {"price": math.nextafter(math.inf, 0)},
        {"price": 2.0**53 + 2},
        {"quantity": 2**31 - 1},
        {"is_active": False},
        {"description": ""},
        {"name": "🧑‍🚀" * 60, "description": "e\u0301\r\n\t\u05e9\u05b8\u05c1\u05dc\u202b"},
        {"created_at": datetime(1, 1, 1, tzinfo=UTC), "updated_at": datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)},
        {"name": "'; DROP TABLE items; --", "description": '\\" %s :x $1 ? {0} \\0 \\x00'},
    ],
)
async def test_every_value_comes_back_as_it_was(repository: ItemRepository, changes: dict[str, Any]) -> None:
    item = an_item(**changes)

    await repository.add(Addition(item))

    assert await repository.get(item.id) == item


@pytest.mark.parametrize(
    "verb",
    [
        lambda repository: repository.get("nobody"),
        lambda repository: repository.update(ItemChange(id="nobody", name="Lamp"), NOW),
        lambda repository: repository.update(ItemChange(id="nobody"), NOW),
        lambda repository: repository.delete("nobody", NOW),
    ],
    ids=["get", "update", "update nothing", "delete"],
)
async def test_an_unknown_item_is_not_found(repository: ItemRepository, verb: Callable[..., object]) -> None:
    with pytest.raises(NotFoundError, match="there is no item nobody") as missing:
        await verb(repository)  # type: ignore[misc]

    assert missing.value.field == "id"


@pytest.mark.parametrize("field", ["id", "sku"])
async def test_a_taken_key_is_a_conflict_and_nothing_is_written(
    repository: ItemRepository, engine: AsyncEngine, field: str
) -> None:
    first = an_item()
    second = replace(an_item(sku="L-2", name="Other"), **{field: getattr(first, field)})
    await repository.add(Addition(first))

    with pytest.raises(ConflictError, match=f"another item has this {field}") as conflict:
        await repository.add(Addition(second))

    assert conflict.value.field == field
    assert await rows(engine) == 1
    assert await repository.get(first.id) == first


async def test_of_many_who_take_one_sku_at_once_one_wins(repository: ItemRepository, engine: AsyncEngine) -> None:
    items = [an_item(name=f"Lamp {number}") for number in range(20)]

    outcomes = await asyncio.gather(*(repository.add(Addition(item)) for item in items), return_exceptions=True)

    assert sum(isinstance(outcome, Item) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 19
    assert await rows(engine) == 1


async def test_skus_differ_by_case(repository: ItemRepository) -> None:
    await repository.add(Addition(an_item(sku="a")))
    await repository.add(Addition(an_item(sku="A")))


async def test_a_change_writes_the_fields_it_names_and_no_others(repository: ItemRepository) -> None:
    item = an_item()
    await repository.add(Addition(item))

    changed = await repository.update(ItemChange(id=item.id, description="", quantity=0), NOW + SECOND)

    assert changed == replace(item, description="", quantity=0, updated_at=NOW + SECOND, version=item.version + 1)
    assert await repository.get(item.id) == changed


async def test_a_change_of_nothing_leaves_the_item_as_it_is(repository: ItemRepository) -> None:
    item = an_item()
    await repository.add(Addition(item))

    assert await repository.update(ItemChange(id=item.id), NOW + SECOND) == item


async def test_a_change_leaves_other_items_alone(repository: ItemRepository) -> None:
    item, other = an_item(), an_item(sku="L-2")
    await repository.add(Addition(item))
    await repository.add(Addition(other))

    await repository.update(ItemChange(id=item.id, name="Other"), NOW + SECOND)

    assert await repository.get(other.id) == other


async def test_the_time_of_change_never_goes_back(repository: ItemRepository) -> None:
    item = an_item()
    await repository.add(Addition(item))

    changed = await repository.update(ItemChange(id=item.id, name="Other"), NOW - SECOND)

    assert (changed.name, changed.updated_at) == ("Other", NOW)


async def test_changes_of_different_fields_at_once_are_all_kept(repository: ItemRepository) -> None:
    item = an_item()
    await repository.add(Addition(item))
    for round_ in range(20):
        changes = [
            ItemChange(id=item.id, name=f"name {round_}"),
            ItemChange(id=item.id, description=f"description {round_}"),
            ItemChange(id=item.id, quantity=round_),
            ItemChange(id=item.id, price=float(round_)),
        ]
        await asyncio.gather(*(repository.update(change, NOW) for change in changes))

        now = await repository.get(item.id)
        assert (now.name, now.description) == (f"name {round_}", f"description {round_}")
        assert (now.quantity, now.price) == (round_, round_)


async def test_a_deleted_item_is_gone_and_its_sku_is_free(repository: ItemRepository) -> None:
    item = an_item()
    await repository.add(Addition(item))

    await repository.delete(item.id, NOW)

    with pytest.raises(NotFoundError):
        await repository.get(item.id)
    with pytest.raises(NotFoundError):
        await repository.delete(item.id, NOW)
    await repository.add(Addition(an_item()))


async def test_of_many_who_delete_at_once_one_succeeds(repository: ItemRepository) -> None:
    item = an_item()
    await repository.add(Addition(item))

    outcomes = await asyncio.gather(*(repository.delete(item.id, NOW) for _ in range(10)), return_exceptions=True)

    assert sum(outcome is None for outcome in outcomes) == 1
    assert sum(isinstance(outcome, NotFoundError) for outcome in outcomes) == 9


async def test_a_time_without_a_zone_is_refused(repository: ItemRepository, engine: AsyncEngine) -> None:
    with pytest.raises(DatabaseError):
        await repository.add(Addition(an_item(created_at=datetime(2026, 1, 1))))  # noqa: DTZ001

    assert await rows(engine) == 0


@pytest.mark.parametrize("changes", [{"quantity": -1}, {"price": -1.0}])
async def test_the_schema_refuses_what_got_past_the_rules_and_the_error_tells_no_secret(
    repository: ItemRepository, engine: AsyncEngine, changes: dict[str, Any]
) -> None:
    with pytest.raises(DatabaseError) as refused:
        await repository.add(Addition(an_item(name="a secret", **changes)))

    assert refused.value.message == "the database failed"
    assert "a secret" not in str(refused.value.__cause__).split("DETAIL", maxsplit=1)[0]
    assert await rows(engine) == 0


async def test_no_free_connection_in_time_is_unavailable(migrated_url: str, limits: Limits) -> None:
    tight = replace(limits, connections=1, pool_timeout=0.05)
    async with open_engine(migrated_url, tight) as engine, engine.connect():
        with pytest.raises(ExternalServiceError, match="the database cannot be reached or does not answer in time"):
            await SqlItemRepository(engine).get("x")


async def test_a_statement_that_waits_too_long_is_unavailable(
    migrated_url: str, repository: ItemRepository, limits: Limits
) -> None:
    item = an_item()
    await repository.add(Addition(item))
    impatient = replace(limits, statement_timeout=3)
    async with open_engine(migrated_url, limits) as engine, engine.begin() as holder:
        await holder.execute(ITEMS.update().where(ITEMS.c.id == item.id).values(name="held"))
        async with open_engine(migrated_url, impatient) as other:
            with pytest.raises(ExternalServiceError):
                await SqlItemRepository(other).update(ItemChange(id=item.id, name="Other"), NOW)

    assert (await repository.get(item.id)).name == "held"


async def test_a_call_that_is_given_up_returns_its_connection(migrated_url: str, limits: Limits) -> None:
    async with open_engine(migrated_url, replace(limits, connections=1)) as engine:
        repository = SqlItemRepository(engine)
        for _ in range(20):
            call = asyncio.ensure_future(repository.add(Addition(an_item(sku=new_id()))))
            await asyncio.sleep(0.001)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

        await repository.add(Addition(an_item(sku=new_id())))
