"""A server in a process of its own, on a core of its own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from grpc import aio

from bench.before import environment

SERVER_CORE = 0
LOAD_CORE = 1


@dataclass(frozen=True, slots=True)
class Running:
    """A contestant that takes calls at `target`."""

    target: str
    process: psutil.Process
    child: asyncio.subprocess.Process


@asynccontextmanager
async def running(module: str, contestant: str, log: str, tree: Path | None = None) -> AsyncIterator[Running]:
    """Start `python -m module contestant`; its first line of output is the address it serves.

    What it logs goes to the file `log`, so that writing log lines costs every contestant the same. It takes the library
    of `tree`, if that is given.
    """
    with open(log, "wb") as sink:  # noqa: ASYNC230, PTH123
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            contestant,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=sink,
            env=environment(tree),
        )
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 30) if process.stdout else b""
        if not line:
            raise RuntimeError(f"{contestant} did not start; its log is {log}")
        yield Running(line.decode().strip(), psutil.Process(process.pid), process)
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()


async def serve(make_server: Callable[[], Awaitable[aio.Server]]) -> None:
    """Serve on a free loopback port, say which, and stop on SIGTERM."""
    server = await make_server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(1)


def pin(core: int) -> None:
    """Keep this process on one core; before grpc starts its threads, which would stay where they are."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})
