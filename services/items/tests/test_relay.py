"""The outbox and its relays: every event told, those of one item in order, whoever fails or dies."""

import asyncio
import random
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import child
import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

import dying_relay
from dying_relay import DATABASE, LIMITS
from grpc_common.database.engine import open_engine
from grpc_common.new_id import new_id
from grpc_common.testing import in_process
from items.event import Event, EventPublisher
from items.event_log import LogPublisher
from items.item import ItemChange, NewItem
from items.main import build
from items.mapper import ItemMapper
from items.migrate import MIGRATIONS
from items.outbox import Outbox
from items.relay import Relay
from items.repository import Addition
from items.settings import ItemsSettings
from items.sql import SqlItemRepository
from items.table import OUTBOX
from items.upkeep import background
from items.wakeups import Wakeups
from localmesh.parts.postgres import Postgres
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1.items_service_pb2_grpc import ItemServiceStub

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.items.v1.items_service_pb2_grpc import ItemServiceAsyncStub

real = partial(datetime.now, UTC)
only_postgresql = pytest.mark.parametrize("kind", ["postgresql"], scope="session")


class Told:
    """A publisher that keeps what it is told, and refuses the items it is told to refuse."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.refused: set[str] = set()
        self.attempts = 0
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.asked = asyncio.Event()

    async def publish(self, event: Event) -> None:
        self.attempts += 1
        self.asked.set()
        await self.may_go_on.wait()
        await asyncio.sleep(random.choice([0, 0.001, 0.005]))  # noqa: S311  # a later one may overtake
        if event.item_id in self.refused:
            raise ConnectionError("nobody listens")
        self.events.append(event)

    def by_item(self) -> dict[str, list[str]]:
        found = defaultdict(list)
        for event in self.events:
            change = pb.ItemChange.FromString(event.payload)
            assert change.item.id == event.item_id
            found[event.item_id].append(f"{change.kind}:{change.item.quantity}")
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


@asynccontextmanager
async def running(
    engine: AsyncEngine, *publishers: EventPublisher, clock: Callable[[], datetime] = real
) -> AsyncIterator[list[Relay]]:
    relays = [Relay(Outbox(engine), publisher, LIMITS, clock) for publisher in publishers]
    async with background(*(relay.run() for relay in relays)):
        yield relays


async def test_all_is_told_in_order(engine: AsyncEngine) -> None:
    told = Told()
    async with running(engine, told):
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

    (claim,) = await Outbox(engine).claim(real(), timedelta(seconds=9), 10)

    change = pb.ItemChange.FromString(claim.event.payload)
    assert ItemMapper().from_proto(change.item) == item
    assert change.kind == pb.ITEM_CHANGE_KIND_CREATED


async def test_an_event_that_fails_holds_back_those_of_its_item_only(engine: AsyncEngine) -> None:
    told = Told()
    expected = await changes(engine, items=6, updates=3)
    bad, *good = sorted(expected)
    told.refused = {bad}
    async with running(engine, told):
        await until_told(engine, left=5)
        assert told.by_item() == {item: expected[item] for item in good}

        told.refused = set()
        await until_told(engine)

    assert told.by_item() == expected


async def test_a_failed_event_is_tried_again_after_growing_pauses(engine: AsyncEngine) -> None:
    await changes(engine, items=1, updates=0)
    told, now = Told(), real()
    (told.refused,) = [{event.event.item_id for event in await Outbox(engine).claim(now, timedelta(0), 1)}]
    relay = Relay(Outbox(engine), told, LIMITS, lambda: now)
    waited = []
    for _ in range(6):
        attempts = told.attempts
        before = now
        while told.attempts == attempts:
            await relay.once()
            now += timedelta(seconds=0.05)
        waited.append((now - before).total_seconds())

    assert waited[-1] > 4 * waited[1]


async def test_stopping_notes_what_was_told_and_gives_the_rest_back(engine: AsyncEngine) -> None:
    await changes(engine, items=1, updates=2)
    told = Told()
    async with running(engine, told):
        await until_told(engine, left=3)
        told.may_go_on.clear()
        told.asked.clear()
        await asyncio.wait_for(told.asked.wait(), 30)
    left = await untold(engine)

    assert left == 4 - len(told.events)
    assert len(await Outbox(engine).claim(real(), timedelta(seconds=9), 10)) == 1


async def test_a_publisher_that_hangs_is_given_up(engine: AsyncEngine) -> None:
    await changes(engine, items=1, updates=0)
    told = Told()
    told.may_go_on.clear()
    relay = Relay(Outbox(engine), told, replace(LIMITS, timeout=0.05), real)

    assert await relay.once() == 0
    assert await untold(engine) == 2


async def test_told_events_are_forgotten_after_a_while(engine: AsyncEngine) -> None:
    await changes(engine, items=20, updates=3)
    async with running(engine, Told()):
        await until_told(engine)
    async with running(engine, Told(), clock=lambda: real() + timedelta(seconds=LIMITS.kept + 1)):
        async with asyncio.timeout(30):
            while await rows(engine):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def rows(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return (await connection.execute(select(func.count()).select_from(OUTBOX))).scalar_one()


async def test_a_relay_that_lags_is_unwell(engine: AsyncEngine) -> None:
    await changes(engine, items=1, updates=0)
    now = real()
    relay = Relay(Outbox(engine), Told(), LIMITS, lambda: now)

    assert await relay.keeps_up()
    now += timedelta(seconds=LIMITS.lag + 1)
    assert not await relay.keeps_up()
    while await relay.once():
        pass
    assert await relay.keeps_up()


async def test_the_same_event_is_claimed_once_and_again_when_its_relay_is_dead(engine: AsyncEngine) -> None:
    expected = await changes(engine, items=5, updates=1)
    outbox, lease, now = Outbox(engine), timedelta(seconds=9), real()

    first = await outbox.claim(now, lease, 10)
    assert {claim.event.item_id for claim in first} == set(expected)
    assert await outbox.claim(now, lease, 10) == []
    again = await outbox.claim(now + lease, lease, 10)
    assert [claim.event for claim in again] == [claim.event for claim in first]

    await outbox.failed(first[0], now)  # the dead one is late: it is another's now
    assert await outbox.claim(now + lease, lease, 10) == []


@only_postgresql
async def test_four_relays_tell_each_event_once_and_in_order(engine: AsyncEngine) -> None:
    told = Told()
    async with running(engine, *[told] * 4):
        expected = await changes(engine, items=30, updates=8)
        await until_told(engine)

    assert told.by_item() == expected
    assert len({event.id for event in told.events}) == len(told.events)


@only_postgresql
async def test_a_relay_killed_before_it_noted_what_it_told_loses_nothing(
    engine: AsyncEngine, migrated_url: str, tmp_path: Path
) -> None:
    expected = await changes(engine, items=8, updates=4)
    file = tmp_path / "told"
    for count in (1, 5, 13):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, dying_relay.__file__, str(file), str(count)),
            env=child.environment(DATABASE=migrated_url),
        )
        assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
    told = Told()
    async with running(engine, told, clock=lambda: real() + timedelta(minutes=1)):  # when the claims of the dead end
        await until_told(engine)

    async with engine.connect() as connection:
        written = (
            await connection.execute(select(OUTBOX.c.item_id, OUTBOX.c.event_id).order_by(OUTBOX.c.number))
        ).all()
    order, seen = defaultdict(list), defaultdict(list)
    for item_id, event_id in written:
        order[item_id].append(event_id)
    lines = [line.split() for line in file.read_text().splitlines()]
    for item_id, event_id in [*lines, *((event.item_id, event.id) for event in told.events)]:
        if event_id not in seen[item_id]:
            seen[item_id].append(event_id)
    assert seen == order
    assert len(lines) == 19
    assert set(expected) == set(order)


@only_postgresql
async def test_a_relay_of_another_process_is_woken(engine: AsyncEngine, migrated_url: str) -> None:
    told = Told()
    async with open_engine(migrated_url, DATABASE) as here, open_engine(migrated_url, DATABASE) as there:
        sleepy = Relay(Outbox(there), told, replace(LIMITS, poll=3600), real)
        ears, mouth = Wakeups(there, sleepy.stir), Wakeups(here, lambda: None)
        repository = SqlItemRepository(engine, changed=mouth.stir)
        async with background(sleepy.run(), ears.run(), mouth.run()):
            for _ in range(5):
                item = NewItem(name="Lamp", description="", sku=new_id(), quantity=0, price=1)
                await repository.add(Addition(item.become(new_id(), real())))
                await until_told(engine)
    assert len(told.events) == 5


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


async def test_relays_go_on_after_an_outage(tmp_path: Path) -> None:
    server = Postgres(tmp_path / "postgres", keep=True)
    async with server:
        url = await server.create_database("items")
        await MIGRATIONS.upgrade(url)
        told = Told()
        async with open_engine(url, DATABASE) as engine:
            relay = Relay(Outbox(engine), told, LIMITS, real)
            async with background(relay.run(), Wakeups(engine, relay.stir).run()):
                await changes(engine, items=1, updates=0)
                await until_told(engine)
                await server.unit.stop()
                await asyncio.sleep(0.2)
                await server.unit.start()
                await changes(engine, items=1, updates=0)
                await until_told(engine)
    server.discard()
    assert len(told.events) == 4


@pytest.mark.parametrize("make", [Told, LogPublisher])
async def test_every_publisher_takes_events_and_again_the_same(make: Callable[[], EventPublisher]) -> None:
    with structlog.testing.capture_logs() as lines:
        publisher = make()
        for event in [Event("1", "i", b"secret", real())] * 2:
            await publisher.publish(event)

    if isinstance(publisher, LogPublisher):
        assert [line["event_id"] for line in lines] == ["1", "1"]
        assert "secret" not in str(lines)
