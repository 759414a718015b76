"""Reads and writes by several callers at once, of which none repeats anything."""

import asyncio
import itertools
import os
import time
from collections import Counter
from contextlib import asynccontextmanager

import grpc
from grpc import StatusCode, aio

from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc

CALLERS = 8
PAUSE = 0.02
WITHIN = 60.0


class Load:
    """Each caller creates an item and reads it, again and again; `ends` counts how the calls ended."""

    def __init__(self, mesh, *, calls_per_connection=None):
        self.ends = Counter()
        self.failures = []
        self.connections = 0
        self._mesh = mesh
        self._per_connection = calls_per_connection or 10**9
        self._numbers = itertools.count()
        self._over = False

    @property
    def done(self):
        """How many calls ended well."""
        return self.ends[StatusCode.OK]

    async def until(self, done):
        """Returns once that many calls have ended well."""
        async with asyncio.timeout(WITHIN):
            while self.done < done:  # noqa: ASYNC110 - the calls of eight callers, counted now and then
                await asyncio.sleep(PAUSE)

    @asynccontextmanager
    async def running(self):
        metadata = (("authorization", f"Bearer {self._mesh.token()}"),)
        callers = [asyncio.create_task(self._connect_again_and_again(metadata)) for _ in range(CALLERS)]
        try:
            yield
        finally:
            self._over = True
            await asyncio.gather(*callers)

    async def _connect_again_and_again(self, metadata):
        while not self._over:
            credentials = grpc.ssl_channel_credentials(self._mesh.root_certificate())
            # Whatever fails must be seen: this client repeats nothing. Channels of the same options share connections.
            options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
            async with aio.secure_channel(f"localhost:{self._mesh.port}", credentials, options=options) as channel:
                self.connections += 1
                await self._call(rpc.ItemServiceStub(channel), metadata)

    async def _call(self, stub, metadata):
        for _ in range(self._per_connection):
            if self._over:
                return
            new = pb.CreateItemRequest(name="Kettle", sku=f"KIT-{os.urandom(3).hex()}-{next(self._numbers)}")
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
