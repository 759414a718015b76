"""A process that is killed while it reads or changes an item through the cache: `python dying.py get|update ID`."""

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from typing import NoReturn

from grpc_common.database.engine import Limits, open_engine
from items.cache import cached
from items.cache_store import CacheLimits
from items.item import Item, ItemChange
from items.sql import SqlItemRepository


class Dying(SqlItemRepository):
    """Does what it is asked, and dies before it can say so."""

    async def get(self, item_id: str) -> Item:
        await super().get(item_id)
        _die()

    async def update(self, change: ItemChange, now: datetime) -> Item:
        await super().update(change, now)
        _die()


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


async def main(verb: str, item_id: str) -> None:
    limits = Limits(connections=1, pool_timeout=5, connect_timeout=5, statement_timeout=5)
    cache_limits = CacheLimits(connections=1, ttl=30, timeout=5)
    async with (
        open_engine(os.environ["DATABASE"], limits) as engine,
        cached(Dying(engine), os.environ["CACHE"], cache_limits) as (repository, _),
    ):
        if verb == "get":
            await repository.get(item_id)
        else:
            await repository.update(ItemChange(id=item_id, name="changed by the dead"), datetime.now(UTC))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
