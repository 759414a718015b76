"""Keeps what was read in Valkey, and reads it there."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from time import monotonic
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry

from grpc_common import deadline
from grpc_common.errors import AppException, NotFoundError
from grpc_common.health.check import DependencyCheck
from grpc_common.listing.order import Position
from grpc_common.listing.query import Query
from items import cache_codec
from items.cache_metrics import CacheMetrics, Outcome
from items.cache_store import CacheLimits, CacheStore, Changing, Failed, Lease, Leased, Paused, Value, open_store
from items.item import Item, ItemChange, WholeItem
from items.repository import Addition, ItemRepository

LONGEST_WAIT: Final = 0.25
"""Seconds a reader waits for what another one is about to store, then it asks the database itself."""
FIRST_LOOK: Final = 0.005
"""Seconds until a reader looks whether another process has stored the item; then twice as many."""


@asynccontextmanager
async def cached(
    repository: ItemRepository, url: str, limits: CacheLimits, registry: CollectorRegistry = REGISTRY
) -> AsyncIterator[tuple[ItemRepository, Sequence[DependencyCheck]]]:
    """Yields the repository behind the cache at `url`, and the check of it; without a url the repository alone."""
    if not url:
        yield repository, ()
        return
    async with open_store(url, limits) as store:
        fast = CachedItemRepository(repository, store, CacheMetrics.of(registry))
        try:
            yield fast, [DependencyCheck(name="cache", probe=store.answers, critical=False)]
        finally:
            await fast.close()


class CachedItemRepository:
    """An ItemRepository in front of another one. Who reads after a change was answered does not see what was before.

    Of many who miss an item at once one reads it from the database, whichever process it is in. Without Valkey
    everything works as if there were no cache.
    """

    def __init__(self, repository: ItemRepository, store: CacheStore, metrics: CacheMetrics) -> None:
        self._repository = repository
        self._store = store
        self._metrics = metrics
        self._filling: dict[str, asyncio.Event] = {}
        self._unfinished: set[asyncio.Task[None]] = set()

    async def get(self, item_id: str) -> Item:
        """Returns the item, or raises NotFoundError."""
        give_up = monotonic() + LONGEST_WAIT
        look = FIRST_LOOK
        while True:
            match await self._store.read(item_id):
                case Value(data):
                    try:
                        item = cache_codec.decode(item_id, data)
                    except ValueError:  # another version of this service wrote it
                        return await self._get_past(item_id, Outcome.ERROR)
                    self._metrics.count(Outcome.HIT)
                    if item is None:
                        raise NotFoundError(f"there is no item {item_id}", field="id")
                    return item
                case Lease() as lease:
                    return await self._get_and_store(item_id, lease)
                case Leased() if monotonic() < give_up:
                    await self._wait(item_id, look)
                    look *= 2
                case Leased():
                    return await self._get_past(item_id, Outcome.WAITED_IN_VAIN)
                case Changing():
                    return await self._get_past(item_id, Outcome.CHANGING)
                case Paused():
                    return await self._get_past(item_id, Outcome.PAUSED)
                case Failed():
                    return await self._get_past(item_id, Outcome.ERROR)

    async def page(self, query: Query, after: Position | None, limit: int) -> Sequence[Item]:
        """Reads a page from the database: lists are not kept."""
        return await self._repository.page(query, after, limit)

    async def add(self, addition: Addition) -> Item:
        """Adds the item; nothing is known of it yet, but perhaps that it is not there."""
        async with self._adding([addition]):
            return await self._repository.add(addition)

    async def add_many(self, additions: Sequence[Addition]) -> Sequence[Item | AppException]:
        """Adds the items."""
        async with self._adding(additions):
            return await self._repository.add_many(additions)

    async def update(self, change: ItemChange, now: datetime) -> Item:
        """Changes the item."""
        async with self._changing(change.id):
            return await self._repository.update(change, now)

    async def put(self, wanted: WholeItem, now: datetime) -> Item:
        """Creates or replaces the item."""
        async with self._changing(wanted.id):
            return await self._repository.put(wanted, now)

    async def delete(self, item_id: str, now: datetime, etag: str = "") -> None:
        """Deletes the item."""
        async with self._changing(item_id):
            await self._repository.delete(item_id, now, etag)

    async def _get_past(self, item_id: str, outcome: Outcome) -> Item:
        self._metrics.count(outcome)
        return await self._repository.get(item_id)

    async def _get_and_store(self, item_id: str, lease: Lease) -> Item:
        self._metrics.count(Outcome.MISS)
        filled = self._filling[item_id] = asyncio.Event()
        used = False
        try:
            try:
                item = await self._repository.get(item_id)
            except NotFoundError:
                used = await self._store.store(item_id, lease, cache_codec.NOTHING)
                raise
            used = await self._store.store(item_id, lease, cache_codec.encode(item))
            return item
        finally:
            if self._filling.get(item_id) is filled:
                del self._filling[item_id]
            filled.set()
            if not used:
                await self._to_the_end(self._store.release(item_id, lease))

    async def _wait(self, item_id: str, look: float) -> None:
        """Waits until who reads the item here has stored it, or for a moment when it is another process."""
        filling = self._filling.get(item_id)
        patience = deadline.remaining(LONGEST_WAIT if filling else look)
        if filling is None:
            await asyncio.sleep(patience or 0)
            return
        try:
            async with asyncio.timeout(patience):
                await filling.wait()
        except TimeoutError:
            return

    @asynccontextmanager
    async def _changing(self, item_id: str) -> AsyncIterator[None]:
        begun = await self._store.begin(item_id)
        try:
            yield
        finally:
            await self._to_the_end(self._store.end(item_id) if begun else self._store.drop([item_id]))

    @asynccontextmanager
    async def _adding(self, additions: Sequence[Addition]) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self._to_the_end(self._store.drop([addition.item.id for addition in additions]))

    async def _to_the_end(self, doing: Awaitable[None]) -> None:
        """Does it even if the call is cancelled: what was committed must not stay hidden."""

        async def do() -> None:
            await doing

        task = asyncio.create_task(do())
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        await asyncio.shield(task)

    async def close(self) -> None:
        """Waits for what calls that were cancelled left to be done."""
        await asyncio.gather(*self._unfinished, return_exceptions=True)
