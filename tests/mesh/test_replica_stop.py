"""One of two replicas is asked to stop under load, and nobody who calls notices."""

import asyncio
import itertools
import os
import signal
import time
from collections import Counter
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc import StatusCode, aio

from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc

CALLERS = 12
PAUSE = 0.02
AROUND = 1.5
"""Seconds of load before the stop and after the return."""
BACK_WITHIN = 40


@pytest.fixture
def two_replicas(own_mesh):
    own_mesh.up("--replicas", "items=2")
    return own_mesh


class Load:
    """Reads and writes one after the other by each caller; `ends` counts how they ended."""

    def __init__(self, mesh):
        self.ends = Counter()
        self.failures = []
        self._mesh = mesh
        self._numbers = itertools.count()
        self._over = False

    @asynccontextmanager
    async def running(self):
        metadata = (("authorization", f"Bearer {self._mesh.issuer().sign()}"),)
        credentials = grpc.ssl_channel_credentials(self._mesh.root_certificate())
        # Whatever fails must be seen: this client repeats nothing.
        options = [("grpc.enable_retries", 0)]
        async with aio.secure_channel(f"localhost:{self._mesh.port}", credentials, options=options) as channel:
            stub = rpc.ItemServiceStub(channel)
            callers = [asyncio.create_task(self._call(stub, metadata)) for _ in range(CALLERS)]
            try:
                yield
            finally:
                self._over = True
                await asyncio.gather(*callers)

    async def _call(self, stub, metadata):
        while not self._over:
            new = pb.CreateItemRequest(name="Kettle", sku=f"KIT-{next(self._numbers)}")
            made = await self._end(stub.CreateItem(new, timeout=10, metadata=metadata))
            if made is not None:
                await self._end(stub.GetItem(pb.GetItemRequest(id=made.id), timeout=10, metadata=metadata))
            await asyncio.sleep(PAUSE)

    async def _end(self, call):
        code = await call.code()
        self.ends[code] += 1
        if code is StatusCode.OK:
            return await call
        self.failures.append((time.monotonic(), code.name, await call.details()))
        return None


async def test_nobody_notices_that_a_replica_stops_and_comes_back(two_replicas):
    load = Load(two_replicas)
    first = (await _status(two_replicas))["services"][0]
    async with load.running():
        await asyncio.sleep(AROUND)
        stopped = time.monotonic()
        os.kill(first["pid"], signal.SIGTERM)
        await _until_back(two_replicas, first)
        await asyncio.sleep(AROUND)
    assert load.failures == [], f"seconds after the stop: {[(at - stopped, *why) for at, *why in load.failures]}"
    assert load.ends[StatusCode.OK] > 100
    assert "asked to stop" in two_replicas("logs", "items")[1]


async def _status(mesh):
    return await asyncio.to_thread(mesh.status)


async def _until_back(mesh, before):
    async with asyncio.timeout(BACK_WITHIN):
        while True:
            now = (await _status(mesh))["services"][0]
            if now["ready"] and now["pid"] != before["pid"] and now["restarts"] == before["restarts"] + 1:
                return
            await asyncio.sleep(0.2)
