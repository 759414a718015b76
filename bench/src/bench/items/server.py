"""The items service with the whole chain: `python -m bench.items.server NAME`, its database in BENCH_DATABASE_URL, its
cache in BENCH_CACHE_URL, which may be empty.
"""

import asyncio
import os
from datetime import UTC, datetime
from functools import partial

from bench.contestant import SERVER_CORE, pin, serve

pin(SERVER_CORE)

from grpc import aio  # noqa: E402  # its threads must begin on their core
from sqlalchemy.ext.asyncio import AsyncEngine  # noqa: E402

from bench.chain.server import whole_chain  # noqa: E402
from grpc_common.database.engine import Limits, open_engine  # noqa: E402
from grpc_common.listing.page_token_secrets import load_page_tokens  # noqa: E402
from grpc_common.new_id import new_id  # noqa: E402
from items.cache import cached  # noqa: E402
from items.cache_store import CacheLimits  # noqa: E402
from items.changes import ChangeLog  # noqa: E402
from items.feed import ChangeFeed  # noqa: E402
from items.repository import ItemRepository  # noqa: E402
from items.service import ItemService, StreamLimits  # noqa: E402
from items.sql import SqlItemRepository  # noqa: E402
from items.table import TOKEN_SECRETS  # noqa: E402
from meshwork.items.v1.items_service_pb2_grpc import add_ItemServiceServicer_to_server  # noqa: E402

STREAMS = StreamLimits(batch_items=5_000, transaction_items=500, ahead=16, heartbeat=10)


CACHE = CacheLimits(connections=20, ttl=300, timeout=1)


async def make_server(engine: AsyncEngine, repository: ItemRepository, feed: ChangeFeed) -> aio.Server:
    """Return the server, not yet started."""
    service = ItemService(
        repository,
        feed,
        await load_page_tokens(engine, TOKEN_SECRETS),
        STREAMS,
        clock=partial(datetime.now, UTC),
        new_id=new_id,
    )
    server = aio.server(interceptors=whole_chain())
    add_ItemServiceServicer_to_server(service, server)
    return server


async def main() -> None:
    limits = Limits(connections=10, pool_timeout=5, connect_timeout=5, statement_timeout=10, slow_query=0.5)
    async with open_engine(os.environ["BENCH_DATABASE_URL"], limits) as engine:
        feed = ChangeFeed(ChangeLog(engine), poll=0.25)
        sql = SqlItemRepository(engine, changed=feed.stir)
        async with cached(sql, os.environ["BENCH_CACHE_URL"], CACHE) as (repository, _):
            await serve(lambda: make_server(engine, repository, feed))


if __name__ == "__main__":
    asyncio.run(main())
