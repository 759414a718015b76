"""What the settings of items do, beside those of every service."""

import asyncio
import time
from contextlib import asynccontextmanager, suppress

import grpc
from redis.asyncio import Redis
from sqlalchemy import Engine, event, func, select

from database_effects import LONG, PATIENCE, create, opened, serving
from effects import shows
from grpc_common.settings import GRPCServerSettings
from items.settings import ItemsSettings
from items.table import CHANGES, REQUESTS
from localmesh.parts.valkey import Valkey
from meshwork.items.v1 import items_service_pb2 as pb

SMALL_WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535))


@shows(ItemsSettings, "grpc")
async def of_grpc(folder):
    assert ItemsSettings().grpc == GRPCServerSettings(enabled=True, host="127.0.0.1")
    from process_effects import of_grpc as shown

    await shown(folder)


async def _code(call):
    with suppress(grpc.aio.AioRpcError):
        await call
    return await call.code()


def _batch(items, count):
    requests = [pb.CreateItemRequest(name="Lamp", sku=f"B-{count}-{number}", quantity=1) for number in range(count)]
    return items.BatchCreateItems(iter(requests))


@shows(ItemsSettings, "batch_items")
async def batch_items(folder):
    for most, expected in ((3, "INVALID_ARGUMENT"), (10, "OK")):
        async with serving(folder, batch_items=most) as items:
            assert (await _code(_batch(items, 5))).name in {expected, "RESOURCE_EXHAUSTED" if most == 3 else "OK"}


async def rows(folder, table):
    async with opened(folder) as engine, engine.connect() as connection:
        return (await connection.execute(select(func.count()).select_from(table))).scalar()


@shows(ItemsSettings, "changes_kept", "changes_most", "requests_kept", "upkeep_interval")
async def upkeep(folder):
    for number, (settings, table, cleared) in enumerate(
        (
            ({"changes_kept": 0.01, "changes_most": 1_000_000}, CHANGES, True),
            ({"changes_kept": LONG, "changes_most": 1_000_000}, CHANGES, False),
            ({"changes_kept": LONG, "changes_most": 0}, CHANGES, True),
            ({"requests_kept": 0.01}, REQUESTS, True),
            ({"requests_kept": LONG}, REQUESTS, False),
            ({"requests_kept": 0.01, "upkeep_interval": LONG}, REQUESTS, False),
        )
    ):
        async with serving(folder, **{"upkeep_interval": 0.2, **settings}) as items:
            await asyncio.sleep(0.5)  # what is done at the start is done
            for each in range(3):
                identity = f"6f1e7c1e-0000-4000-8000-{number:06d}{each:06d}"
                await create(items, f"U-{number}-{each}", request_id=identity)
            if cleared:
                async with asyncio.timeout(PATIENCE):
                    while await rows(folder, table) > 1:  # noqa: ASYNC110
                        await asyncio.sleep(0.1)
            else:
                await asyncio.sleep(1.5)
                assert await rows(folder, table) >= 3


@shows(ItemsSettings, "watch_heartbeat")
async def watch_heartbeat(folder):
    for seconds, beats in ((0.1, True), (LONG, False)):
        async with serving(folder, watch_heartbeat=seconds) as items:
            watch = items.WatchItems(pb.WatchItemsRequest(), timeout=PATIENCE)
            seen = asyncio.ensure_future(_several(watch, 4))
            done, _ = await asyncio.wait([seen], timeout=PATIENCE if beats else 1.5)
            assert bool(done) is beats
            watch.cancel()
            seen.cancel()
            await asyncio.wait([seen])


async def _several(watch, count):
    for _ in range(count):
        await watch.read()


@shows(ItemsSettings, "watch_poll")
async def watch_poll(folder):
    for seconds, told in ((0.05, True), (LONG, False)):
        async with (
            serving(folder, watch_poll=seconds, watch_heartbeat=LONG) as watched,
            serving(folder, relay=False) as elsewhere,
        ):
            watch = watched.WatchItems(pb.WatchItemsRequest(), timeout=PATIENCE)
            await watch.initial_metadata() if told else None
            seen = asyncio.ensure_future(_change(watch))
            await asyncio.sleep(1.0)
            await create(elsewhere, f"W-{told}")
            done, _ = await asyncio.wait([seen], timeout=PATIENCE if told else 2.0)
            assert bool(done) is told
            watch.cancel()
            seen.cancel()
            await asyncio.wait([seen])


async def _change(watch):
    while True:
        reply = await watch.read()
        if "W-" in str(reply):
            return


@shows(ItemsSettings, "batch_transaction")
async def batch_transaction(folder):
    commits = {}
    for each in (2, 100):
        begun = []

        def note(connection, begun=begun):
            begun.append(connection)

        async with serving(folder, batch_transaction=each, relay=False, upkeep_interval=LONG) as items:
            event.listen(Engine, "commit", note)
            try:
                assert (await _code(_batch(items, 18 + each % 3))).name == "OK"
            finally:
                event.remove(Engine, "commit", note)
        commits[each] = len(begun)
    assert commits[2] >= 9 > commits[100]


@shows(ItemsSettings, "sync_ahead")
async def sync_ahead(folder):
    taken = {}
    for ahead in (1, 1000):
        async with serving(folder, SMALL_WINDOW, sync_ahead=ahead) as items:
            sent = []

            async def actions(sent=sent):
                for number in range(20_000):
                    yield pb.ItemSyncRequest(delete_id=f"{number:064d}")
                    sent.append(number)

            call = items.SyncItems(actions(), timeout=PATIENCE)  # and nobody reads the replies
            before = -1
            while len(sent) != before:
                before = len(sent)
                await asyncio.sleep(2.0)
            call.cancel()
        taken[ahead] = before
    assert taken[1000] - taken[1] > 500, taken


async def _kept(url):
    """The keys in the cache, with the milliseconds they have."""
    async with Redis.from_url(url) as client:
        return {key: await client.pttl(key) async for key in client.scan_iter("items:*")}


@shows(ItemsSettings, "cache_url", "cache_ttl")
async def cache(folder):
    async with Valkey(folder / "valkey", users=["items"]) as valkey:
        url = valkey.url("items")
        for number, (settings, least, most) in enumerate(
            (
                ({}, 0, 0),
                ({"cache_url": url, "cache_ttl": 5}, 1, 5_000),
                ({"cache_url": url, "cache_ttl": 3000}, 100_000, 3_000_000),
            )
        ):
            async with serving(folder, **settings) as items:
                before = set(await _kept(url))
                item = await create(items, f"C-{number}")
                for _ in range(2):
                    await items.GetItem(pb.GetItemRequest(id=item.id))
                found = {key: lives for key, lives in (await _kept(url)).items() if key not in before}
                assert bool(found) is bool(settings)
                assert all(least <= lives <= most for lives in found.values()), found


@asynccontextmanager
async def _silent():
    """A server that takes connections and answers nothing; how many there were at once, at most."""
    held = []

    async def hold(reader, writer):
        held.append(writer)
        await reader.read(-1)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", held
    for writer in held:
        writer.close()
    server.close()


@shows(ItemsSettings, "cache_timeout")
async def cache_timeout(folder):
    async with serving(folder) as items:
        item = await create(items, "T-1")
    for seconds in (0.4, 0.9):
        async with _silent() as (url, _), serving(folder, cache_url=url, cache_timeout=seconds) as items:
            began = time.monotonic()
            await items.GetItem(pb.GetItemRequest(id=item.id))
            assert time.monotonic() - began >= seconds


@shows(ItemsSettings, "cache_connections")
async def cache_connections(folder):
    async with serving(folder) as items:
        ids = [(await create(items, f"N-{number}")).id for number in range(12)]
    for most, expected in ((2, range(1, 3)), (12, range(4, 14))):
        settings = {"cache_connections": most, "cache_timeout": 1.0}
        async with _silent() as (url, held), serving(folder, cache_url=url, **settings) as items:
            await asyncio.gather(*(items.GetItem(pb.GetItemRequest(id=each)) for each in ids))
            assert len(held) in expected
