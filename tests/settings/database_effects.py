"""What the settings of a service with a database do, shown by items and the outbox."""

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import TimeoutError as SQLTimeoutError
from structlog.testing import capture_logs

from effects import shows
from grpc_common.database.engine import open_engine
from grpc_common.database.reader import READING
from grpc_common.database.settings import DatabaseSettings
from grpc_common.errors import AppException
from grpc_common.outbox.settings import OutboxSettings
from grpc_common.outbox.telling import telling
from grpc_common.testing import in_process
from items.main import build
from items.settings import ItemsSettings
from items.table import OUTBOX
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1.items_service_pb2_grpc import ItemServiceStub

PATIENCE = 20.0
LONG = 600.0


def settings_in(folder, **settings):
    url = f"sqlite+aiosqlite:///{folder}/items.db"
    return ItemsSettings(
        **{"database_url": url, "database_pool_timeout": 10, "database_statement_timeout": 20, **settings}
    )


@asynccontextmanager
async def serving(folder, options=(), **settings):
    """A client of the service of those settings; `options` are of server and channel."""
    async with (
        build(settings_in(folder, **settings)) as application,
        in_process(application.register, options=options) as channel,
    ):
        stub = ItemServiceStub(channel)
        stub.application = application
        yield stub


def create(stub, sku, **more):
    return stub.CreateItem(pb.CreateItemRequest(name="Lamp", sku=sku, quantity=1, **more), timeout=PATIENCE)


@asynccontextmanager
async def opened(folder, **settings):
    """The database of those settings."""
    chosen = settings_in(folder, **settings)
    async with open_engine(chosen.database_url.get_secret_value(), chosen.database_limits, "test") as engine:
        yield engine


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@shows(DatabaseSettings, "database_url")
@shows(ItemsSettings, "database_url")
async def database_url(folder):
    for name in ("one", "two"):
        async with serving(folder, database_url=f"sqlite+aiosqlite:///{folder}/{name}.db"):
            assert (folder / f"{name}.db").is_file()


@shows(DatabaseSettings, "migrate_on_start")
async def migrate_on_start(folder):
    with pytest.raises(AppException, match="migrat"):
        async with serving(folder, migrate_on_start=False):
            pass
    async with serving(folder, migrate_on_start=True) as items:
        await create(items, "A")


async def _holds(engine):
    """A connection that is in use; it only reads, so that in SQLite it holds up nobody but who wants a connection."""
    connection = await engine.execution_options(**{READING: True}).connect().start()
    await connection.execute(text("select 1"))
    return connection


@shows(DatabaseSettings, "database_connections", "database_pool_timeout")
async def database_connections(folder):
    async with opened(folder, database_connections=2, database_pool_timeout=0.3) as engine:
        for each in [await _holds(engine), await _holds(engine)]:
            await each.close()
    async with opened(folder, database_connections=1, database_pool_timeout=0.3) as engine:
        first, began = await _holds(engine), time.monotonic()
        with pytest.raises(SQLTimeoutError):
            await _holds(engine)
        assert time.monotonic() - began >= 0.3
        await first.close()
    async with opened(folder, database_connections=1, database_pool_timeout=LONG) as engine:
        first, waiting = await _holds(engine), asyncio.ensure_future(_holds(engine))
        done, _ = await asyncio.wait([waiting], timeout=1.5)
        assert not done
        await first.close()
        await (await asyncio.wait_for(waiting, PATIENCE)).close()


@shows(DatabaseSettings, "database_connect_timeout")
async def database_connect_timeout(folder):
    held = []

    async def say_nothing(reader, writer):
        held.append(writer)
        await asyncio.sleep(LONG)

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    url = f"postgresql+asyncpg://nobody@127.0.0.1:{port}/nothing"

    async def connect(seconds):
        async with opened(folder, database_url=url, database_connect_timeout=seconds):
            pass

    began = time.monotonic()
    with pytest.raises(AppException):
        await asyncio.wait_for(connect(0.3), PATIENCE)
    assert time.monotonic() - began >= 0.3
    patient = asyncio.ensure_future(connect(LONG))
    done, _ = await asyncio.wait([patient], timeout=1.5)
    assert not done
    patient.cancel()
    await asyncio.wait([patient])
    silent.close()


@shows(DatabaseSettings, "database_statement_timeout")
async def database_statement_timeout(folder):
    endless = text("with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n")

    async def run(seconds):
        async with opened(folder, database_statement_timeout=seconds) as engine, engine.connect() as connection:
            await connection.execute(endless)

    with pytest.raises(Exception, match="interrupted"):
        await asyncio.wait_for(run(0.3), PATIENCE)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run(PATIENCE), 1.5)


@shows(DatabaseSettings, "database_slow_query")
async def database_slow_query(folder):
    for seconds, told in ((1e-9, True), (LONG, False)):
        with capture_logs() as lines:
            async with opened(folder, database_slow_query=seconds) as engine, engine.connect() as connection:
                await connection.execute(text("select 41 + 1"))
        assert any("slow" in line["event"] for line in lines) is told


# The outbox.


class Publisher:
    """Takes events as it is told to."""

    def __init__(self, fails=0, slow=False):
        self.at = []
        self.told = []
        self.most = self.now = 0
        self._fails, self._slow = fails, slow
        self.goes_on = asyncio.Event()

    async def publish(self, event):
        self.at.append(time.monotonic())
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self._slow:
                await self.goes_on.wait()
            if len(self.at) <= self._fails:
                raise ConnectionError("not now")
            self.told.append(event.subject)
        finally:
            self.now -= 1


@asynccontextmanager
async def relaying(folder, publisher, **settings):
    """The outbox of the items there are, told to the publisher as the settings say; with its checks."""
    chosen = settings_in(folder, **settings)
    url, clock = chosen.database_url.get_secret_value(), partial(datetime.now, UTC)
    async with telling(url, chosen.database_limits, OUTBOX, publisher, chosen.relay_limits, clock, application="t") as (
        tell,
        checks,
    ):
        yield tell, checks


async def written(folder, count=1, at=0):
    """Has items write so many events, and tell nobody."""
    async with serving(folder, relay=False) as items:
        for number in range(count):
            await create(items, f"S-{at + number}")


@shows(OutboxSettings, "relay")
async def relay(folder):
    for tells in (False, True):
        with capture_logs() as lines:
            async with serving(folder, relay=tells) as items:
                await create(items, f"R-{tells}")
                if tells:
                    await until(lambda: any(line["event"] == "item changed" for line in lines))
                else:
                    await asyncio.sleep(1.5)
        assert any(line["event"] == "item changed" for line in lines) is tells


@shows(OutboxSettings, "relay_poll")
async def relay_poll(folder):
    await written(folder)
    for seconds, found in ((0.1, True), (LONG, False)):
        publisher = Publisher()
        async with relaying(folder, publisher, relay_poll=seconds, relay_pause=0.01):
            await asyncio.sleep(1.0)  # it has looked once
            before = len(publisher.told)
            await written(folder, at=10 if found else 20)  # by another process, which stirs nobody here
            if found:
                await until(lambda: len(publisher.told) > before)  # noqa: B023
            else:
                await asyncio.sleep(1.5)
                assert len(publisher.told) == before


@shows(OutboxSettings, "relay_timeout")
async def relay_timeout(folder):
    await written(folder)
    for seconds, again in ((0.2, True), (LONG, False)):
        publisher = Publisher(slow=True)
        async with relaying(folder, publisher, relay_timeout=seconds, relay_pause=0.01, relay_poll=0.05):
            await until(lambda: publisher.at)  # noqa: B023
            if again:
                await until(lambda: len(publisher.at) > 1)  # noqa: B023
            else:
                await asyncio.sleep(1.5)
                assert len(publisher.at) == 1
            publisher.goes_on.set()


@shows(OutboxSettings, "relay_pause")
async def relay_pause(folder):
    waits = {}
    for seconds in (0.01, LONG):
        await written(folder, at=int(seconds))
        publisher = Publisher(fails=5)
        async with relaying(folder, publisher, relay_pause=seconds, relay_poll=0.01):
            await until(lambda: publisher.told)  # noqa: B023
        waits[seconds] = publisher.at[5] - publisher.at[0]
    # Doubled from 0.2 s on they are at least 0.1 + 0.2 + 0.4 + 0.8 + 1.6 s together.
    assert waits[LONG] >= 3.1
    assert waits[0.01] < waits[LONG]


@shows(OutboxSettings, "relay_lag")
async def relay_lag(folder):
    await written(folder)
    await asyncio.sleep(0.1)
    for seconds, well in ((0.05, False), (LONG, True)):
        async with relaying(folder, Publisher(slow=True), relay_lag=seconds) as (_, (check,)):
            assert bool(await check.probe()) is well


@shows(OutboxSettings, "relay_kept")
async def relay_kept(folder):
    await written(folder, 3)
    for seconds, left in ((LONG, 3), (0.0, 0)):
        async with relaying(folder, Publisher(), relay_kept=seconds, relay_poll=0.05), opened(folder) as engine:

            async def rows(engine=engine):
                async with engine.connect() as connection:
                    return (await connection.execute(select(func.count()).select_from(OUTBOX))).scalar()

            if left:
                await asyncio.sleep(1.5)
            async with asyncio.timeout(PATIENCE):
                while await rows() != left:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)


@shows(OutboxSettings, "relay_at_once")
async def relay_at_once(folder):
    await written(folder, 6)
    for most in (2, 6):
        publisher = Publisher(slow=True)
        async with relaying(folder, publisher, relay_at_once=most, relay_timeout=LONG, relay_poll=0.05):
            await until(lambda: publisher.now == most)  # noqa: B023
            await asyncio.sleep(0.5)
            assert publisher.most == most
