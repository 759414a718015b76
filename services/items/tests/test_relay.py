"""The outbox of items: every change is told, those of one item in order, and nothing else."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.background import background
from grpc_common.new_id import new_id
from grpc_common.outbox.event import Event, EventPublisher
from grpc_common.outbox.outbox import Outbox
from grpc_common.outbox.relay import Relay, RelayLimits
from grpc_common.testing import in_process
from items.event_log import LogPublisher
from items.item import ItemChange, NewItem
from items.main import build
from items.mapper import ItemMapper
from items.repository import Addition
from items.settings import ItemsSettings
from items.sql import SqlItemRepository
from items.table import OUTBOX
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1.items_service_pb2_grpc import ItemServiceStub

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.items.v1.items_service_pb2_grpc import ItemServiceAsyncStub

LIMITS = RelayLimits(poll=0.05, timeout=5, pause=60, kept=3600, lag=30, at_once=10)

real = partial(datetime.now, UTC)


class Told:
    """A publisher that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def publish(self, event: Event) -> None:
        self.events.append(event)

    def by_item(self) -> dict[str, list[str]]:
        found = defaultdict(list)
        for event in self.events:
            change = pb.ItemChange.FromString(event.payload)
            assert change.item.id == event.subject
            found[event.subject].append(f"{change.kind}:{change.item.quantity}")
        return found


async def changes(engine: AsyncEngine, *, items: int, updates: int) -> dict[str, list[str]]:
    """Creates items and changes them, all at once; returns what is to be told of each."""
    repository = SqlItemRepository(engine)

    async def one(sku: str) -> tuple[str, list[str]]:
        new = NewItem(name="Lamp", description="", sku=sku, quantity=0, price=1).become(new_id(), real())
        item = await repository.add(Addition(new))
        for number in range(1, updates + 1):
            await repository.update(ItemChange(id=item.id, quantity=number), real())
        await repository.delete(item.id, real())
        return item.id, ["1:0", *(f"2:{number}" for number in range(1, updates + 1)), f"3:{updates}"]

    return dict(await asyncio.gather(*(one(new_id()) for _ in range(items))))


async def untold(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        counting = select(func.count()).select_from(OUTBOX).where(OUTBOX.c.told_at.is_(None))
        return (await connection.execute(counting)).scalar_one()


async def until_told(engine: AsyncEngine, left: int = 0) -> None:
    async with asyncio.timeout(60):
        while await untold(engine) > left:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_all_is_told_in_order(engine: AsyncEngine) -> None:
    told = Told()
    async with background(Relay(Outbox(engine, OUTBOX), told, LIMITS, real).run()):
        expected = await changes(engine, items=10, updates=5)
        await until_told(engine)

    assert told.by_item() == expected


async def test_an_event_is_there_when_its_change_is_and_only_then(engine: AsyncEngine) -> None:
    repository = SqlItemRepository(engine)
    item = NewItem(name="Lamp", description="", sku=new_id(), quantity=0, price=1).become(new_id(), real())
    await repository.add(Addition(item))
    with pytest.raises(Exception, match="another item"):
        await repository.add(Addition(replace(item, id=new_id())))
    with pytest.raises(Exception, match="etag"):
        await repository.delete(item.id, real(), '"0"')

    (claim,) = await Outbox(engine, OUTBOX).claim(real(), timedelta(seconds=9), 10)

    change = pb.ItemChange.FromString(claim.event.payload)
    assert ItemMapper().from_proto(change.item) == item
    assert change.kind == pb.ITEM_CHANGE_KIND_CREATED


async def rows(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return (await connection.execute(select(func.count()).select_from(OUTBOX))).scalar_one()


@pytest.mark.parametrize("relay", [True, False])
async def test_the_service_tells_what_is_done(kind: str, migrated_url: str, engine: AsyncEngine, relay: bool) -> None:
    settings = ItemsSettings(database_url=SecretStr(migrated_url), migrate_on_start=False, relay=relay)
    async with build(settings) as application, in_process(application.register) as channel:
        items: ItemServiceAsyncStub = ItemServiceStub(channel)
        await items.CreateItem(pb.CreateItemRequest(name="Lamp", sku=new_id()))
        checks = {check.name: check for check in application.dependencies}
        assert ("outbox" in checks) is relay
        if relay:
            assert not checks["outbox"].critical
            assert await checks["outbox"].probe()
            await until_told(engine)
    assert await rows(engine) == 1


@pytest.mark.parametrize("make", [Told, LogPublisher])
async def test_every_publisher_takes_events_and_again_the_same(make: Callable[[], EventPublisher]) -> None:
    with structlog.testing.capture_logs() as lines:
        publisher = make()
        for event in [Event("1", "i", b"secret", real())] * 2:
            await publisher.publish(event)

    if isinstance(publisher, LogPublisher):
        assert [line["event_id"] for line in lines] == ["1", "1"]
        assert "secret" not in str(lines)
