"""The service on a database, for tests that call it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from grpc import aio
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.background import background
from grpc_common.listing.page_token_secrets import load_page_tokens
from grpc_common.new_id import new_id
from grpc_common.testing import in_process
from items.changes import ChangeLog
from items.feed import ChangeFeed
from items.service import ItemService, StreamLimits
from items.sql import SqlItemRepository
from items.table import TOKEN_SECRETS
from meshwork.items.v1.items_service_pb2_grpc import ItemServiceStub
from meshwork.items.v1.items_service_pb2_grpc import add_ItemServiceServicer_to_server as add_to_server

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.items.v1.items_service_pb2_grpc import ItemServiceAsyncStub

STREAMS = StreamLimits(batch_items=1_000, transaction_items=7, ahead=4, heartbeat=0.2)


@asynccontextmanager
async def serving(
    engine: AsyncEngine, clock: Callable[[], datetime], limits: StreamLimits = STREAMS, **chain: Any
) -> AsyncIterator["ItemServiceAsyncStub"]:
    """Yields a client of the service, over a socket and through the standard chain."""
    async with reached(engine, clock, limits, **chain) as channel:
        yield ItemServiceStub(channel)


@asynccontextmanager
async def reached(
    engine: AsyncEngine, clock: Callable[[], datetime], limits: StreamLimits = STREAMS, **chain: Any
) -> AsyncIterator[aio.Channel]:
    """Yields a channel to the service."""
    feed = ChangeFeed(ChangeLog(engine), poll=0.02)
    repository = SqlItemRepository(engine, changed=feed.stir)
    tokens = await load_page_tokens(engine, TOKEN_SECRETS)
    service = ItemService(repository, feed, tokens, limits, clock=clock, new_id=new_id)
    async with background(feed.run()), in_process(partial(add_to_server, service), **chain) as channel:
        yield channel
