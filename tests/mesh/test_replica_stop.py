"""One of two replicas is asked to stop under load, and nobody who calls notices."""

import asyncio
import os
import signal
import time

from grpc import StatusCode

from load import Load

AROUND = 1.5
"""Seconds of load before the stop and after the return."""
BACK_WITHIN = 40


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
