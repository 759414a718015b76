"""The database of the service, and what is told of it to others."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from pydantic import SecretStr

from auth.migrate import MIGRATIONS
from auth.publisher import SecurityEventPublisher
from auth.settings import AuthServiceSettings
from auth.stores import Stores
from auth.table import OUTBOX
from auth.upkeep import Upkeep
from grpc_common.background import background
from grpc_common.database.clock import open_clock
from grpc_common.database.engine import answers, open_engine
from grpc_common.health.check import DependencyCheck
from grpc_common.outbox.telling import telling
from grpc_common.revocation_stream import RevocationStream
from grpc_common.revocations import Revocations


@asynccontextmanager
async def open_stores(
    settings: AuthServiceSettings, revocations: Revocations
) -> AsyncIterator[tuple[Stores, Sequence[DependencyCheck]]]:
    """Yield what is kept, and the checks of it; events are told and what is over is forgotten as long as it is open.
    What is taken back, or was of late, gets into `revocations`, whether or not there is a Valkey to tell it.

    Raises:
        DatabaseError: the database lacks migrations.
        ExternalServiceError: it cannot be reached.
    """
    url, limits, clock = settings.database_url.get_secret_value(), settings.database_limits, partial(datetime.now, UTC)
    if settings.migrate_on_start:
        await MIGRATIONS.upgrade(url)
    async with (
        open_engine(url, limits, "auth") as engine,
        _publisher(settings.revocations_url, revocations) as publisher,
    ):
        await MIGRATIONS.require_current(engine)
        relay = publisher if settings.relay else None
        relaying = telling(url, limits, OUTBOX, relay, settings.relay_limits, clock, application="auth")
        async with relaying as (changed, outbox), open_clock(engine) as shared_clock:
            stores = await Stores.sql(engine, changed, shared_clock)
            for each in await stores.revocations.recent():
                revocations.take(each)
            upkeep = Upkeep(stores.families, stores.revocations, settings.refresh_idle, shared_clock)
            async with background(upkeep.run(settings.upkeep_interval)):
                yield stores, [DependencyCheck(name="database", probe=partial(answers, engine)), *outbox]


@asynccontextmanager
async def _publisher(url: SecretStr, revocations: Revocations) -> AsyncIterator[SecurityEventPublisher]:
    if not url:
        yield SecurityEventPublisher(revocations)
        return
    async with RevocationStream(url.get_secret_value()) as stream:
        yield SecurityEventPublisher(revocations, stream)
