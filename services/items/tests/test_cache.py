"""The cache in front of the repository: never stale, never needed; Valkey is killed and stopped."""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

import dying
from grpc_common.errors import ExternalServiceError, NotFoundError
from grpc_common.new_id import new_id
from items import cache, cache_codec, cache_store
from items.cache import cached
from items.cache_store import CacheLimits
from items.item import Item, ItemChange, NewItem
from items.main import build
from items.repository import Addition, ItemRepository
from items.settings import ItemsSettings
from items.sql import SqlItemRepository
from localmesh import child
from localmesh.parts.valkey import Valkey

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


class Watched(SqlItemRepository):
    """The database, with its reads counted, and with pauses before and after each statement as they are drawn."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self.reads = 0
        self.pause: Callable[[], float] = lambda: 0
        self.has_read = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def get(self, item_id: str) -> Item:
        self.reads += 1
        await asyncio.sleep(self.pause())
        try:
            return await super().get(item_id)
        finally:
            self.has_read.set()
            await self.may_answer.wait()
            await asyncio.sleep(self.pause())

    async def update(self, change: ItemChange, now: datetime) -> Item:
        await asyncio.sleep(self.pause())
        item = await super().update(change, now)
        await asyncio.sleep(self.pause())
        return item

    async def delete(self, item_id: str, now: datetime, etag: str = "") -> None:
        await asyncio.sleep(self.pause())
        await super().delete(item_id, now, etag)
        await asyncio.sleep(self.pause())


class Setting:
    """Two replicas of the service on one database and one Valkey."""

    def __init__(self, database: Watched, replicas: list[ItemRepository], registry: CollectorRegistry) -> None:
        self.database = database
        self.replicas = replicas
        self.one, self.other = replicas
        self._registry = registry

    def outcomes(self, outcome: str) -> int:
        return int(self._registry.get_sample_value("items_cache_reads_total", {"outcome": outcome}) or 0)

    async def item(self, **changes: Any) -> Item:
        item = NewItem(name="Lamp", description="", sku=new_id(), quantity=0, price=1).become(new_id(), NOW)
        return await self.one.add(Addition(replace(item, **changes)))


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a reader may need longer than others care to wait; how long they do is no matter here."""
    monkeypatch.setattr(cache, "LONGEST_WAIT", 20.0)


@pytest_asyncio.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    """One that a test may kill."""
    async with Valkey(tmp_path / "valkey", users=["items"]) as server:
        yield server


@pytest.fixture
def enter(engine: AsyncEngine, cache_limits: CacheLimits) -> Callable[..., Any]:
    async def enter(stack: AsyncExitStack, server: Valkey, **changes: Any) -> Setting:
        database, registry = Watched(engine), CollectorRegistry()
        limits = replace(cache_limits, **changes)
        opened = [
            await stack.enter_async_context(cached(database, server.url("items"), limits, registry)) for _ in range(2)
        ]
        return Setting(database, [repository for repository, _ in opened], registry)

    return enter


@pytest_asyncio.fixture
async def setting(enter: Callable[..., Any], valkey: Valkey) -> AsyncIterator[Setting]:
    async with AsyncExitStack() as stack:
        yield await enter(stack, valkey)


async def test_what_was_read_is_not_read_again(setting: Setting) -> None:
    item = await setting.item()

    for repository in setting.replicas * 5:
        assert await repository.get(item.id) == item

    assert setting.database.reads == 1
    assert (setting.outcomes("hit"), setting.outcomes("miss")) == (9, 1)


async def test_what_is_not_there_is_not_asked_again_and_found_once_it_is_there(setting: Setting) -> None:
    item_id = new_id()
    for repository in setting.replicas * 5:
        with pytest.raises(NotFoundError, match=f"there is no item {item_id}"):
            await repository.get(item_id)
    assert setting.database.reads == 1

    item = await setting.item(id=item_id)

    for repository in setting.replicas:
        assert await repository.get(item_id) == item


async def test_of_200_cold_readers_one_asks_the_database(setting: Setting) -> None:
    item = await setting.item()
    setting.database.pause = lambda: 0.02

    found = await asyncio.gather(*(repository.get(item.id) for repository in setting.replicas * 100))

    assert found == [item] * 200
    assert setting.database.reads == 1


async def test_of_200_readers_of_nothing_one_asks_the_database(setting: Setting) -> None:
    setting.database.pause = lambda: 0.02
    nobody = new_id()

    found = await asyncio.gather(*(each.get(nobody) for each in setting.replicas * 100), return_exceptions=True)

    assert all(isinstance(each, NotFoundError) for each in found)
    assert setting.database.reads == 1


async def test_when_the_one_that_reads_is_cancelled_another_one_does(setting: Setting) -> None:
    item = await setting.item()
    setting.database.pause = lambda: 0.05
    first = asyncio.ensure_future(setting.one.get(item.id))
    while not setting.database.reads:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    others = [asyncio.ensure_future(repository.get(item.id)) for repository in setting.replicas * 10]
    await asyncio.sleep(0.01)
    first.cancel()

    assert await asyncio.gather(*others) == [item] * 20
    assert setting.database.reads == 2


async def test_a_change_is_seen_by_who_reads_after_it(setting: Setting) -> None:
    item = await setting.item()
    for number in range(20):
        await setting.other.get(item.id)

        changed = await setting.one.update(ItemChange(id=item.id, quantity=number), NOW)

        assert [await repository.get(item.id) for repository in setting.replicas] == [changed] * 2
    await setting.one.delete(item.id, NOW)
    for repository in setting.replicas:
        with pytest.raises(NotFoundError):
            await repository.get(item.id)


async def test_who_read_before_a_change_does_not_store_what_he_read(setting: Setting) -> None:
    item = await setting.item()
    setting.database.may_answer.clear()
    reading = asyncio.ensure_future(setting.one.get(item.id))
    await setting.database.has_read.wait()

    changed = await setting.other.update(ItemChange(id=item.id, quantity=7), NOW)
    setting.database.may_answer.set()
    assert await reading == item

    assert [await repository.get(item.id) for repository in setting.replicas] == [changed] * 2


steps = st.lists(
    st.tuples(
        st.sampled_from(["get", "get", "get", "update", "put away"]),
        st.integers(0, 1),  # the replica
        st.integers(0, 6),  # milliseconds before it begins
    ),
    min_size=2,
    max_size=16,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, seed=st.integers(0, 2**32))
async def test_nobody_sees_what_was_before_a_change_that_was_answered(
    setting: Setting, steps: list[tuple[str, int, int]], seed: int
) -> None:
    """G21: with readers and writers on two replicas at once, and statements that take their time, whoever begins to
    read after a change was answered sees that change or a later one.
    """
    drawn = random.Random(seed)  # noqa: S311
    setting.database.pause = lambda: 0
    item = await setting.item()
    setting.database.pause = lambda: drawn.choice([0, 0.001, 0.004])
    answered, gone = item.version, False

    async def take(verb: str, replica: int, milliseconds: int) -> None:
        nonlocal answered, gone
        await asyncio.sleep(milliseconds / 1000)
        repository, at_least, was_gone = setting.replicas[replica], answered, gone
        try:
            if verb == "get":
                found = await repository.get(item.id)
                assert found.version >= at_least, "stale"
                assert not was_gone, "back from the dead"
            elif verb == "update":
                changed = await repository.update(ItemChange(id=item.id, quantity=milliseconds), NOW)
                answered = max(answered, changed.version)
            elif milliseconds > 4:
                await repository.delete(item.id, NOW)
                gone = True
        except NotFoundError:
            pass

    await asyncio.gather(*(take(*step) for step in steps))
    for replica in range(2):
        await take("get", replica, 0)


async def test_a_writer_that_dies_after_its_commit_leaves_nothing_stale(
    setting: Setting, migrated_url: str, valkey: Valkey
) -> None:
    item = await setting.item()
    assert await setting.one.get(item.id) == item

    await die("update", item.id, migrated_url, valkey)

    for repository in setting.replicas * 2:
        assert (await repository.get(item.id)).name == "changed by the dead"
    assert setting.outcomes("changing") == 4


async def test_a_reader_that_dies_holds_nobody_up(
    setting: Setting, migrated_url: str, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "LONGEST_WAIT", 0.25)
    item = await setting.item()

    await die("get", item.id, migrated_url, valkey)

    began = time.monotonic()
    assert await setting.one.get(item.id) == item
    assert time.monotonic() - began < cache_store.LEASE
    async with asyncio.timeout(30):
        while not setting.outcomes("hit"):
            assert await setting.other.get(item.id) == item


async def die(verb: str, item_id: str, database: str, valkey: Valkey) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, dying.__file__, verb, item_id),
        env=child.environment(DATABASE=database, CACHE=valkey.url("items")),
    )
    assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL


async def test_without_valkey_all_goes_on_and_costs_nothing(enter: Callable[..., Any], own_valkey: Valkey) -> None:
    async with AsyncExitStack() as stack:
        setting = await enter(stack, own_valkey)
        item = await setting.item()
        assert await setting.one.get(item.id) == item

        os.kill(own_valkey.unit.pid, signal.SIGKILL)

        found = [await setting.one.get(item.id) for _ in range(50)]
        changed = await setting.one.update(ItemChange(id=item.id, quantity=5), NOW)
        assert found == [item] * 50
        assert await setting.one.get(item.id) == changed
        assert setting.outcomes("paused") > setting.outcomes("error")


async def test_a_valkey_that_comes_back_is_used_again(enter: Callable[..., Any], own_valkey: Valkey) -> None:
    async with AsyncExitStack() as stack:
        setting = await enter(stack, own_valkey)
        item = await setting.item()
        os.kill(own_valkey.unit.pid, signal.SIGKILL)
        assert await setting.one.get(item.id) == item
        await own_valkey.unit.stop()
        await own_valkey.unit.start()

        async with asyncio.timeout(30):
            while not setting.outcomes("hit"):
                assert await setting.one.get(item.id) == item
                await asyncio.sleep(0.01)


async def test_a_valkey_that_hangs_costs_one_wait(enter: Callable[..., Any], own_valkey: Valkey) -> None:
    async with AsyncExitStack() as stack:
        setting = await enter(stack, own_valkey, timeout=0.2)
        item = await setting.item()
        assert await setting.one.get(item.id) == item
        os.kill(own_valkey.unit.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert await asyncio.gather(*(setting.one.get(item.id) for _ in range(100))) == [item] * 100
            assert time.monotonic() - began < 5  # 100 waits would be 20
            changed = await setting.one.update(ItemChange(id=item.id, quantity=5), NOW)
            assert await setting.one.get(item.id) == changed
        finally:
            os.kill(own_valkey.unit.pid, signal.SIGCONT)
        # Valkey still has the old value: this replica knows that it could not take it away.
        hits = setting.outcomes("hit")
        async with asyncio.timeout(30):
            while setting.outcomes("hit") == hits:
                assert await setting.one.get(item.id) == changed
                await asyncio.sleep(0.005)
        assert await setting.other.get(item.id) == changed


async def test_with_the_database_gone_what_is_kept_is_served(enter: Callable[..., Any], setting: Setting) -> None:
    item = await setting.item()
    assert await setting.one.get(item.id) == item

    async def gone(_: str) -> Item:
        raise ExternalServiceError("gone")

    setting.database.get = gone  # type: ignore[method-assign]
    assert await setting.one.get(item.id) == item
    with pytest.raises(ExternalServiceError):
        await setting.one.get(new_id())


async def test_cancelled_calls_mix_no_answers_up(setting: Setting) -> None:
    items = [await setting.item(name=f"Lamp {number}") for number in range(10)]
    drawn = random.Random(7)  # noqa: S311

    async def read(item: Item) -> None:
        try:
            async with asyncio.timeout(drawn.choice([0, 0.0005, 0.001, 0.002, 5])):
                assert await drawn.choice(setting.replicas).get(item.id) == item
        except TimeoutError:
            pass

    for _ in range(20):
        await asyncio.gather(*(read(item) for item in items * 5))
    for item in items:
        assert await setting.one.get(item.id) == item


async def test_a_change_that_is_cancelled_is_seen(setting: Setting) -> None:
    item = await setting.item()
    for number in range(1, 7):
        await setting.other.get(item.id)
        call = asyncio.ensure_future(setting.one.update(ItemChange(id=item.id, quantity=number), NOW))
        await asyncio.sleep(random.Random(number).uniform(0, 0.01))  # noqa: S311
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

        async with asyncio.timeout(20):
            kept = await setting.database.get(item.id)
            while (await setting.one.get(item.id)) != kept:  # a commit may be under way still
                kept = await setting.database.get(item.id)


async def test_what_another_version_wrote_is_read_past(enter: Callable[..., Any], own_valkey: Valkey) -> None:
    async with AsyncExitStack() as stack, Redis.from_url(own_valkey.url("items")) as client:
        setting = await enter(stack, own_valkey)
        item = await setting.item()
        await setting.one.get(item.id)
        (key,) = [key async for key in client.scan_iter("items:*:value")]
        await client.set(key, b"2something else")

        assert await setting.one.get(item.id) == item
        assert setting.outcomes("error") == 1


async def test_a_value_ends_by_itself(enter: Callable[..., Any], valkey: Valkey) -> None:
    async with AsyncExitStack() as stack:
        setting = await enter(stack, valkey, ttl=0.05)
        item = await setting.item()
        async with asyncio.timeout(20):
            while setting.database.reads < 3:
                assert await setting.one.get(item.id) == item
                await asyncio.sleep(0.01)


async def test_the_health_of_the_cache_is_not_critical(tmp_path: Path, own_valkey: Valkey) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/items.db"
    settings = ItemsSettings(database_url=SecretStr(url), cache_url=SecretStr(own_valkey.url("items")))
    async with build(settings) as application:
        check = {each.name: each for each in application.dependencies}["cache"]
        assert not check.critical
        assert await check.probe()
        os.kill(own_valkey.unit.pid, signal.SIGKILL)
        with pytest.raises(Exception, match=r"(?i)connect|refused|closed|reset"):
            await check.probe()
    await own_valkey.stop()
    async with build(settings) as application:  # it starts without it as well
        assert "cache" in {each.name for each in application.dependencies}


any_item = st.builds(
    Item,
    id=st.text(min_size=1, max_size=64),
    name=st.text(),
    description=st.text(),
    sku=st.text(),
    quantity=st.integers(0, 2**31 - 1),
    price=st.floats(0, allow_nan=False, allow_infinity=False),
    is_active=st.booleans(),
    created_at=st.datetimes(timezones=st.just(UTC)),
    updated_at=st.datetimes(timezones=st.just(UTC)),
    version=st.integers(-(2**63), 2**63 - 1),
)


@settings(max_examples=200, deadline=None)
@given(item=any_item)
def test_an_item_comes_back_as_it_was(item: Item) -> None:
    """P2: what is encoded for the cache is decoded without loss."""
    assert cache_codec.decode(item.id, cache_codec.encode(item)) == item


@settings(max_examples=200, deadline=None)
@given(item=any_item, data=st.binary())
def test_what_is_no_item_is_refused(item: Item, data: bytes) -> None:
    if data == cache_codec.NOTHING:
        return
    with pytest.raises(ValueError):
        cache_codec.decode("another", data)
    with pytest.raises(ValueError, match="not this item"):
        cache_codec.decode(item.id + "x", cache_codec.encode(item))
