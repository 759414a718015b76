"""The clock of the database: the same for everybody, whatever the machine's says."""

import asyncio
import itertools
import time
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from grpc_common.background import background
from grpc_common.database.clock import DatabaseClock, open_clock
from grpc_common.database.engine import Limits, open_engine
from grpc_common.fixed_clock import FixedClock

RESOLUTION = 0.002  # SQLite's is a millisecond


@pytest.mark.parametrize("off", [-60, 60, 1e9])
async def test_replicas_have_one_time_though_their_machines_differ(engine: AsyncEngine, off: float) -> None:
    here, there = DatabaseClock(engine), DatabaseClock(engine, local=lambda: time.time() + off)
    for clock in (here, there):
        began = time.monotonic()
        await clock.read()
        took = time.monotonic() - began
        before, now, after = time.time(), clock(), time.time()
        # This database is on this machine.
        assert before - took - RESOLUTION <= now <= after + took + RESOLUTION


async def test_it_goes_on_from_what_was_read_whatever_the_machine_is_set_to(engine: AsyncEngine) -> None:
    local, monotonic = FixedClock(time.time()), FixedClock(0)
    clock = DatabaseClock(engine, local=local, monotonic=monotonic)
    await clock.read()
    read = clock()
    monotonic.advance(40)
    local.advance(-10_000)
    assert clock() == pytest.approx(read + 40, abs=0.001)


async def test_it_is_the_machine_s_until_it_has_been_read(engine: AsyncEngine) -> None:
    monotonic = FixedClock(50)
    clock = DatabaseClock(engine, local=FixedClock(1234), monotonic=monotonic)
    assert clock() == 1234
    monotonic.advance(1)
    assert clock() == 1235


async def test_the_shortest_of_several_readings_counts(engine: AsyncEngine) -> None:
    # Each sample looks twice: the second one of three takes 10 ms, the others 8 and 4 seconds.
    ticks = iter([0, 0, 8, 8, 8.01, 10, 14])
    clock = DatabaseClock(engine, local=lambda: 0, monotonic=lambda: next(ticks, 14))
    before = time.time()
    await clock.read()
    after = time.time()
    assert before - RESOLUTION <= clock() - (14 - 8.005) <= after + RESOLUTION


async def test_a_machine_that_is_far_off_is_told_once_and_when_it_no_longer_is(engine: AsyncEngine) -> None:
    local = FixedClock(time.time() + 60)
    clock = DatabaseClock(engine, local=local)
    with capture_logs() as lines:
        await clock.read()
        await clock.read()
        local.now = time.time()
        await clock.read()
    far, near = lines
    assert (far["log_level"], far["event"]) == ("warning", "this machine's clock is not the database's")
    assert far["seconds_ahead"] == pytest.approx(60, abs=4)
    assert (near["log_level"], near["event"]) == ("info", "this machine's clock is the database's again")


def ahead(clock: DatabaseClock) -> float:
    """By how many seconds it is ahead of this machine's; asked again if this process was held up meanwhile."""
    while True:
        before, now, after = time.time(), clock(), time.time()
        if 0 <= after - before < 0.01:
            return now - before


async def test_it_goes_on_while_the_database_does_not_answer(url: str, limits: Limits) -> None:
    async with (
        open_engine(url, replace(limits, connections=1, pool_timeout=0.01)) as engine,
        open_clock(engine) as clock,
    ):
        off = ahead(clock)
        with capture_logs() as lines:
            async with engine.connect(), background(clock.keep(0.001)), asyncio.timeout(30):
                while len(lines) < 2:  # noqa: ASYNC110  # a log tells nobody
                    await asyncio.sleep(0.01)
        assert {line["event"] for line in lines} == {"the database's clock was not read"}
        assert ahead(clock) == pytest.approx(off, abs=0.05)
        await clock.read()


async def test_a_reading_that_took_long_does_not_replace_a_good_one(engine: AsyncEngine) -> None:
    monotonic, seconds = FixedClock(0), itertools.repeat(0.0)
    clock = DatabaseClock(engine, monotonic=lambda: monotonic() + next(seconds))
    await clock.read()
    good = clock()
    seconds = itertools.count(0.0, 4.0)  # each look at the clock four seconds later than the one before
    await clock.read()
    seconds = itertools.repeat(0.0)
    assert clock() == good
