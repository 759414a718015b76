"""Serves items: `python -m items.main`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from grpc_common.application import Application
from grpc_common.background import background
from grpc_common.database.engine import answers, open_engine
from grpc_common.health.check import DependencyCheck
from grpc_common.listing.page_token_secrets import load_page_tokens
from grpc_common.new_id import new_id
from grpc_common.outbox.telling import telling
from grpc_common.run import run
from items.cache import cached
from items.changes import ChangeLog
from items.event_log import LogPublisher
from items.feed import ChangeFeed
from items.migrate import MIGRATIONS
from items.service import ItemService
from items.settings import ItemsSettings
from items.sql import SqlItemRepository
from items.table import OUTBOX, TOKEN_SECRETS
from items.upkeep import Upkeep
from meshwork.items.v1.items_service_pb2_grpc import add_ItemServiceServicer_to_server


@asynccontextmanager
async def build(settings: ItemsSettings) -> AsyncIterator[Application]:
    """Yields the service with its database, which is open as long as the service is."""
    url = settings.database_url.get_secret_value()
    clock = partial(datetime.now, UTC)
    if settings.migrate_on_start:
        await MIGRATIONS.upgrade(url)
    async with open_engine(url, settings.database_limits, "items") as engine:
        await MIGRATIONS.require_current(engine)
        tokens = await load_page_tokens(engine, TOKEN_SECRETS)
        log = ChangeLog(engine)
        feed = ChangeFeed(log, poll=settings.watch_poll)
        upkeep = Upkeep(engine, log, settings.kept, clock)
        database = DependencyCheck(name="database", probe=partial(answers, engine))
        publisher = LogPublisher() if settings.relay else None
        async with telling(
            url, settings.database_limits, OUTBOX, publisher, settings.relay_limits, clock, application="items"
        ) as (tell, outbox):

            def changed() -> None:
                feed.stir()
                tell()

            sql = SqlItemRepository(engine, changed)
            async with (
                cached(sql, settings.cache_url.get_secret_value(), settings.cache_limits) as (repository, cache),
                background(feed.run(), upkeep.run(settings.upkeep_interval)),
            ):
                service = ItemService(repository, feed, tokens, settings.streams, clock=clock, new_id=new_id)
                register = partial(add_ItemServiceServicer_to_server, service)
                yield Application(register, [database, *outbox, *cache], feed.end)


if __name__ == "__main__":
    run(build, ItemsSettings)
