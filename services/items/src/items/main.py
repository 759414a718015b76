"""Serves items: `python -m items.main`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from grpc_common.application import Application
from grpc_common.health.check import DependencyCheck
from grpc_common.run import run
from items.cache import cached
from items.engine import answers, open_engine
from items.identity import new_id
from items.migrate import migrate, require_current
from items.service import ItemService
from items.settings import ItemsSettings
from items.sql import SqlItemRepository
from meshwork.items.v1.items_service_pb2_grpc import add_ItemServiceServicer_to_server


@asynccontextmanager
async def build(settings: ItemsSettings) -> AsyncIterator[Application]:
    """Yields the service with its database, which is open as long as the service is."""
    url = settings.database_url.get_secret_value()
    if settings.migrate_on_start:
        await migrate(url)
    async with open_engine(url, settings.limits) as engine:
        await require_current(engine)
        database = DependencyCheck(name="database", probe=partial(answers, engine))
        sql = SqlItemRepository(engine)
        async with cached(sql, settings.cache_url.get_secret_value(), settings.cache_limits) as (repository, checks):
            # The streaming RPCs are left to the generated class, which answers UNIMPLEMENTED.
            service = ItemService(repository, clock=partial(datetime.now, UTC), new_id=new_id)  # type: ignore[abstract]
            yield Application(partial(add_ItemServiceServicer_to_server, service), [database, *checks])


if __name__ == "__main__":
    run(build, ItemsSettings)
