"""What the items service costs: each verb through the chain, by asyncpg and by SQLModel, and with a thousand times more
items.

All contestants do the same work in a process of their own on the same core, with as many calls under way and as many
connections; the service also serves gRPC, verifies tokens, validates, logs, counts and traces. PostgreSQL and the
load have the other core.
"""

import asyncio
import json
import os
import random
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from bench.chain.tokens import write_keys
from bench.contestant import LOAD_CORE, Running, pin, running
from bench.items.store import LARGE, SMALL, clear, item_id, seed
from bench.load import Load
from bench.report import Ratio, Report
from bench.rounds import Effort, Turn, play
from items.migrate import MIGRATIONS
from localmesh.parts.postgres import Postgres
from localmesh.parts.valkey import Valkey

VERBS: Final = ("get", "create", "update", "search", "list")
CONCURRENCY: Final = 16
LISTED: Final = 500
SERVICES: Final = {"chain": (SMALL, False), "chain, large": (LARGE, False), "chain, cached": (SMALL, True)}
"""How many items each has, and whether it has a cache."""
DIRECT: Final = ("asyncpg", "sqlmodel")
TARGETS: Final = {"get_vs_sqlmodel": 0.6}
GROWTH_TARGETS: Final = {"get": 1.3}


async def measure(effort: Effort) -> Report:
    """Run the benchmark."""
    pin(LOAD_CORE)
    import grpc.aio  # its threads must begin on their core

    from meshwork.items.v1 import items_service_pb2_grpc as rpc

    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tokens = write_keys(folder)
        os.environ["BENCH_KEYS"] = str(folder)
        postgres = await stack.enter_async_context(Postgres(folder / "postgres"))
        urls = {size: await postgres.create_database(f"items_{size}") for size in (SMALL, LARGE)}
        for size, url in urls.items():
            print(f"seeding {size:,} items", file=sys.stderr, flush=True)
            await MIGRATIONS.upgrade(url)
            await seed(url, size)
        valkey = await stack.enter_async_context(Valkey(folder / "valkey", users=["items"]))
        servers: dict[str, Running] = {}
        stubs = {}
        for name, (size, cache) in SERVICES.items():
            os.environ["BENCH_DATABASE_URL"] = urls[size]
            os.environ["BENCH_CACHE_URL"] = valkey.url("items") if cache else ""
            log = str(folder / f"{name}.log")
            servers[name] = await stack.enter_async_context(running("bench.items.server", name, log))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(servers[name].target))
            stubs[name] = rpc.ItemServiceStub(channel)
        os.environ["BENCH_DATABASE_URL"] = urls[SMALL]
        direct = {name: await stack.enter_async_context(_direct(name)) for name in DIRECT}
        metadata = [(("authorization", f"Bearer {token}"),) for token in tokens]

        async def turn(contestant: str) -> Turn:
            verb, name = contestant.split(maxsplit=1)
            size, _ = SERVICES.get(name, (SMALL, False))
            try:
                if name in direct:
                    return await _ask(direct[name], verb, effort.seconds, size)
                call = Calls(stubs[name], size)
                per_call = LISTED if verb == "list" else 1
                load = Load(CONCURRENCY, metadata)
                return await load.run(getattr(call, verb), servers[name].process, effort.seconds, per_call)
            finally:
                await clear(urls[size])

        names = [f"{verb} {name}" for verb in VERBS for name in ("chain", *DIRECT, "chain, large")]
        names.append("get chain, cached")
        results = await play(names, turn, effort)

    ratios = []
    for verb in VERBS:
        chain, large = f"{verb} chain", f"{verb} chain, large"
        for name in DIRECT:
            other = f"{verb} {name}"
            ratio = f"{verb}_vs_{name}"
            cpu = results.ratios(lambda turns, one=chain, two=other: turns[two].cpu_s / turns[one].cpu_s)
            ratios.append(Ratio(ratio, cpu, TARGETS.get(ratio)))
            rate = results.ratios(lambda turns, one=chain, two=other: turns[one].per_s / turns[two].per_s)
            ratios.append(Ratio(f"{ratio}_rate", rate))
        growth = results.ratios(lambda turns, one=large, two=chain: turns[one].p50_ms / turns[two].p50_ms)
        ratios.append(Ratio(f"{verb}_growth", growth, GROWTH_TARGETS.get(verb), at_most=True))
    gained = results.ratios(lambda turns: turns["get chain"].cpu_s / turns["get chain, cached"].cpu_s)
    ratios.append(Ratio("get_cached_vs_cold", gained))
    return Report("items", effort, results, ratios)


class Calls:
    """The calls of one turn, each about another item."""

    def __init__(self, stub: Any, items: int) -> None:
        from meshwork.items.v1 import items_service_pb2 as pb

        self._pb = pb
        self._stub = stub
        self._items = items

    async def get(self, sent: Sequence[tuple[str, str]]) -> int:
        """Read one."""
        await self._stub.GetItem(self._pb.GetItemRequest(id=self._any()), metadata=sent)
        return 1

    async def create(self, sent: Sequence[tuple[str, str]]) -> int:
        """Create one, without a request id: the direct contestants know of none."""
        request = self._pb.CreateItemRequest(
            name="Stoneware mug", description="350 ml", sku=f"new-{uuid.uuid4().hex}", quantity=42, price=12.5
        )
        await self._stub.CreateItem(request, metadata=sent)
        return 1

    async def update(self, sent: Sequence[tuple[str, str]]) -> int:
        """Change one."""
        await self._stub.UpdateItem(self._pb.UpdateItemRequest(id=self._any(), quantity=7), metadata=sent)
        return 1

    async def search(self, sent: Sequence[tuple[str, str]]) -> int:
        """Read a page of 50, from anywhere."""
        request = self._pb.SearchItemsRequest(page_size=50, filter=f'price > 5 AND id > "{self._any()}"')
        return len((await self._stub.SearchItems(request, metadata=sent)).items) and 1

    async def list(self, sent: Sequence[tuple[str, str]]) -> int:
        """Stream many."""
        request = self._pb.ListItemsRequest(page_size=LISTED)
        return len([item async for item in self._stub.ListItems(request, metadata=sent)])

    def _any(self) -> str:
        return item_id(random.randrange(self._items - 100))  # noqa: S311  # a page follows


@asynccontextmanager
async def _direct(name: str) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.items.direct", name, stdin=pipe, stdout=pipe
    )
    try:
        if await _line(process, 30) != "ready":
            raise RuntimeError(f"{name} did not start")
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _ask(process: asyncio.subprocess.Process, verb: str, seconds: float, items: int) -> Turn:
    assert process.stdin is not None  # noqa: S101  # it is a pipe
    process.stdin.write(f"{verb} {seconds} {items - 100}\n".encode())
    await process.stdin.drain()
    return Turn(**json.loads(await _line(process, seconds + 30)))


async def _line(process: asyncio.subprocess.Process, seconds: float) -> str:
    assert process.stdout is not None  # noqa: S101  # it is a pipe
    async with asyncio.timeout(seconds):
        return (await process.stdout.readline()).decode().strip()
