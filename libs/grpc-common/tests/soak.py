"""Cancelled and broken calls of all kinds, for as long as one likes, and what they leave behind."""

import asyncio
import gc
import os
import random
from contextlib import suppress
from pathlib import Path
from statistics import median
from time import monotonic
from typing import NamedTuple

from grpc_common.call import Call
from grpc_common.conformance.endings import CASES, Client, Request
from grpc_common.conformance.matrix import Matrix, running_tasks

AT_ONCE = 8
MAX_CONTEXTS = 250
"""A cancelled timer keeps the context it was made in until asyncio tidies up, which takes more than 100 of them."""
WINDOWS = 10
# Each takes a connection of its own, or core's time to answer: up to a second. A few of them are enough.
SLOW = {Client.CLOSES, Client.VANISHES, Client.RUNS_OUT, Request.OVERSIZED, Request.MUCH_METADATA}
RSS_TOLERANCE = 1 / 3
"""MiB per 1000 calls, that is 350 bytes a call: less than any object of a call with what it holds."""
RSS_NOISE = 4.0
"""MiB that come and go with the arenas of the allocators: in a few thousand calls more than the tolerance tells."""


class Window(NamedTuple):
    """What there is when no call runs."""

    calls: int
    tasks: int
    contexts: int
    rss: float
    """MiB."""


async def soak(subject, seconds, seed=0):
    """Make calls for `seconds` and return the windows and the findings."""
    chance = random.Random(seed)  # noqa: S311
    weights = [0.02 if {case.ending.client, case.ending.request} & SLOW else 1.0 for case in CASES]
    windows, findings, made = [], [], 0
    async with Matrix.serve(subject) as matrix:

        async def call_until(end):
            nonlocal made
            while monotonic() < end:
                (case,) = chance.choices(CASES, weights)
                findings.extend(await matrix.call(case))
                made += 1

        await asyncio.gather(*(call_until(monotonic() + seconds / WINDOWS) for _ in range(AT_ONCE)))  # warms up
        for _ in range(WINDOWS - 1):
            await asyncio.gather(*(call_until(monotonic() + seconds / WINDOWS) for _ in range(AT_ONCE)))
            await matrix.rest()
            findings += matrix.findings_of_gauges()
            windows.append(Window(made, running_tasks().total(), contexts(), rss()))
    return windows, findings


def contexts():
    """Count the calls that are still in memory."""
    gc.collect()
    return sum(isinstance(each, Call) for each in gc.get_objects())


def rss():
    """Resident memory in MiB; 0 where /proc does not tell."""
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return 0.0


def grows(windows):
    """Say whether memory grows with the calls."""
    later = settled(windows)
    thousands = (later[-1].calls - later[0].calls) / 1000
    return rss_slope(windows) * thousands > RSS_NOISE + RSS_TOLERANCE * thousands


def settled(windows):
    return windows[len(windows) * 2 // 5 :]


def rss_slope(windows):
    """Return MiB per 1000 calls, the median of the slopes between all pairs of the later windows (Theil-Sen)."""
    later = settled(windows)
    slopes = [
        (after.rss - before.rss) / (after.calls - before.calls)
        for at, before in enumerate(later)
        for after in later[at + 1 :]
    ]
    return median(slopes) * 1000
