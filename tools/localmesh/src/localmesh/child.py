"""Service processes for the tests to start and to kill: `from localmesh import child`."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from grpc_common.client.factory import OWN_CONNECTIONS
from grpc_common.loopback import NO_PROXY

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ENDS_WITHIN = 30


def environment(**settings: str) -> Mapping[str, str]:
    """Returns an environment in which Python finds what it finds here, in whatever folder it is started."""
    return {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), **settings}


async def start(module: str, folder: Path, **settings: str) -> asyncio.subprocess.Process:
    """Starts a module as a program in the folder, with these environment variables."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        cwd=folder,
        env=environment(**settings),
        stderr=asyncio.subprocess.PIPE,
    )


async def end_of(process: asyncio.subprocess.Process) -> tuple[int, list[str]]:
    """Returns the exit status and what the process wrote, line by line."""
    _, errors = await asyncio.wait_for(process.communicate(), ENDS_WITHIN)
    return await process.wait(), errors.decode().splitlines()


def reason(lines: list[str]) -> str:
    """Returns the reason that the last line of a log gives."""
    return str(json.loads(lines[-1])["reason"])


async def health_is(status: int, channel: grpc.aio.Channel, service: str = "") -> None:
    """Waits until the service says that it is so."""
    health: Any = health_pb2_grpc.HealthStub(channel)
    watch = health.Watch(health_pb2.HealthCheckRequest(service=service), wait_for_ready=True, timeout=ENDS_WITHIN)
    async for answer in watch:
        if answer.status == status:
            break
    watch.cancel()


@asynccontextmanager
async def serving(module: str, target: str, folder: Path, **settings: str) -> AsyncIterator[grpc.aio.Channel]:
    """Runs a service, waits until it is SERVING at `target`, yields a channel to it, and asserts that it exits with 0
    on SIGTERM.
    """
    process = await start(module, folder, **settings)
    try:
        async with grpc.aio.insecure_channel(target, [NO_PROXY, OWN_CONNECTIONS]) as channel:
            await _until_it_serves(process, channel, module)
            yield channel
        process.send_signal(signal.SIGTERM)
        status, lines = await end_of(process)
        if status != 0:
            raise AssertionError(f"{module} exited with {status}:\n" + "\n".join(lines))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _until_it_serves(process: asyncio.subprocess.Process, channel: grpc.aio.Channel, module: str) -> None:
    ended, serves = asyncio.create_task(process.wait()), asyncio.create_task(health_is(SERVING, channel))
    try:
        await asyncio.wait([ended, serves], return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            status, lines = await end_of(process)
            raise AssertionError(f"{module} exited with {status} before it was SERVING:\n" + "\n".join(lines))
        await serves
    finally:
        for task in (ended, serves):
            task.cancel()
