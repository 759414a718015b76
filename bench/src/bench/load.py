"""Load on a server: a fixed number of calls under way at any time, of which only those that end OK count."""

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import psutil

from bench.rounds import Turn

type OneCall = Callable[[Sequence[tuple[str, str]]], Awaitable[int]]
"""Makes one call and returns how many replies it got."""


@dataclass(frozen=True, slots=True)
class Load:
    """`concurrency` callers, each of which sends the next of `metadata` in turn."""

    concurrency: int
    metadata: Sequence[Sequence[tuple[str, str]]]

    async def run(self, call: OneCall, server: psutil.Process, seconds: float, per_call: int = 1) -> Turn:
        """Call for `seconds`; rates and costs are per reply, of which each call must get `per_call`.

        Raises what a call raises: a contestant that refuses calls has not competed.
        """
        turns = itertools.cycle(self.metadata)
        latencies: list[float] = []
        end = time.perf_counter() + seconds

        async def caller() -> None:
            while (started := time.perf_counter()) < end:
                if await call(next(turns)) != per_call:
                    raise RuntimeError("a call got fewer replies than it asked for")
                latencies.append(time.perf_counter() - started)

        cpu, started = cpu_seconds(server), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(caller())
        elapsed, used = time.perf_counter() - started, cpu_seconds(server) - cpu
        percentiles = statistics.quantiles(latencies, n=100)
        return Turn(
            per_s=len(latencies) * per_call / elapsed,
            p50_ms=percentiles[49] * 1000,
            p99_ms=percentiles[98] * 1000,
            cpu_s=used / (len(latencies) * per_call),
            rss_mb=server.memory_info().rss / 2**20,
        )


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time the process has used."""
    times = process.cpu_times()
    return times.user + times.system
