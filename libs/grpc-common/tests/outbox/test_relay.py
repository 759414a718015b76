"""Relays: every event told, those of one subject in order, whoever fails or dies."""

import asyncio
import os
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from outbox import dying_relay
from outbox.letters import (
    DATABASE,
    LETTERS,
    LIMITS,
    METADATA,
    Told,
    real,
    rows,
    until_told,
    untold,
    write,
    written,
)
from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.background import background
from grpc_common.database.engine import open_engine
from grpc_common.outbox.event import EventPublisher
from grpc_common.outbox.outbox import Outbox
from grpc_common.outbox.relay import Relay
from grpc_common.outbox.telling import telling
from grpc_common.outbox.wakeups import Wakeups
from localmesh.parts.postgres import Postgres

only_postgresql = pytest.mark.parametrize("kind", ["postgresql"], scope="session")


@asynccontextmanager
async def running(
    engine: AsyncEngine, table: Table, *publishers: EventPublisher, clock: Callable[[], datetime] = real
) -> AsyncIterator[None]:
    relays = [Relay(Outbox(engine, table), publisher, LIMITS, clock) for publisher in publishers]
    async with background(*(relay.run() for relay in relays)):
        yield


async def test_all_is_told_in_order(engine: AsyncEngine, table: Table) -> None:
    told = Told()
    async with running(engine, table, told):
        expected = await written(engine, table, subjects=10, count=6)
        await until_told(engine, table)

    assert told.by_subject() == expected


async def test_an_event_that_fails_holds_back_those_of_its_subject_only(engine: AsyncEngine, table: Table) -> None:
    told = Told()
    expected = await written(engine, table, subjects=6, count=4)
    bad, *good = sorted(expected)
    told.refused = {bad}
    async with running(engine, table, told):
        await until_told(engine, table, left=4)
        assert told.by_subject() == {subject: expected[subject] for subject in good}

        told.refused = set()
        await until_told(engine, table)

    assert told.by_subject() == expected


async def pauses(relay: Relay, told: Told, clock: list[datetime], count: int) -> list[float]:
    """Tries a refused event so many times and returns the seconds between two tries."""
    waited = []
    for _ in range(count):
        attempts, before = told.attempts, clock[0]
        while told.attempts == attempts:
            await relay.once()
            clock[0] += timedelta(seconds=0.05)
        waited.append((clock[0] - before).total_seconds())
    return waited[1:]


async def test_a_failed_event_is_tried_again_after_growing_pauses(engine: AsyncEngine) -> None:
    await write(engine, LETTERS, "bad")
    told, clock = Told(), [real()]
    told.refused = {"bad"}

    waited = await pauses(Relay(Outbox(engine, LETTERS), told, LIMITS, lambda: clock[0]), told, clock, 6)

    assert waited[-1] > 4 * waited[0]


async def test_no_pause_is_longer_than_was_said(engine: AsyncEngine) -> None:
    await write(engine, LETTERS, "bad")
    told, clock, limits = Told(), [real()], replace(LIMITS, pause=0.5)
    told.refused = {"bad"}

    waited = await pauses(Relay(Outbox(engine, LETTERS), told, limits, lambda: clock[0]), told, clock, 8)

    assert max(waited) <= 0.6


async def test_stopping_notes_what_was_told_and_gives_the_rest_back(engine: AsyncEngine, table: Table) -> None:
    await write(engine, table, "one", count=4)
    told = Told()
    async with running(engine, table, told):
        await until_told(engine, table, left=3)
        told.may_go_on.clear()
        told.asked.clear()
        await asyncio.wait_for(told.asked.wait(), 30)
    left = await untold(engine, table)

    assert left == 4 - len(told.events)
    assert len(await Outbox(engine, table).claim(real(), timedelta(seconds=9), 10)) == 1


async def test_a_publisher_that_hangs_is_given_up(engine: AsyncEngine) -> None:
    await write(engine, LETTERS, "one")
    told = Told()
    told.may_go_on.clear()
    relay = Relay(Outbox(engine, LETTERS), told, replace(LIMITS, timeout=0.05), real)

    assert await relay.once() == 0
    assert await untold(engine, LETTERS) == 1


async def test_told_events_are_forgotten_after_a_while(engine: AsyncEngine, table: Table) -> None:
    await written(engine, table, subjects=20, count=3)
    async with running(engine, table, Told()):
        await until_told(engine, table)
    async with running(engine, table, Told(), clock=lambda: real() + timedelta(seconds=LIMITS.kept + 1)):
        async with asyncio.timeout(30):
            while await rows(engine, table):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_relay_that_lags_is_unwell(engine: AsyncEngine) -> None:
    await write(engine, LETTERS, "one", count=2)
    now = real()
    relay = Relay(Outbox(engine, LETTERS), Told(), LIMITS, lambda: now)

    assert await relay.keeps_up()
    now += timedelta(seconds=LIMITS.lag + 1)
    assert not await relay.keeps_up()
    while await relay.once():
        pass
    assert await relay.keeps_up()


@only_postgresql
async def test_four_relays_tell_each_event_once_and_in_order(engine: AsyncEngine, table: Table) -> None:
    told = Told()
    async with running(engine, table, *[told] * 4):
        expected = await written(engine, table, subjects=30, count=10)
        await until_told(engine, table)

    assert told.by_subject() == expected
    assert len({event.id for event in told.events}) == len(told.events)


@only_postgresql
async def test_a_relay_killed_before_it_noted_what_it_told_loses_nothing(
    engine: AsyncEngine, url: str, tmp_path: Path
) -> None:
    expected = await written(engine, LETTERS, subjects=8, count=6)
    file = tmp_path / "told"
    for count in (1, 5, 13):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, dying_relay.__file__, str(file), str(count)),
            env={"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "DATABASE": url},
        )
        assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
    told = Told()
    async with running(engine, LETTERS, told, clock=lambda: real() + timedelta(minutes=1)):  # when their claims end
        await until_told(engine, LETTERS)

    columns = LETTERS.c
    async with engine.connect() as connection:
        kept = (await connection.execute(select(columns.subject, columns.event_id).order_by(columns.number))).all()
    order: dict[str, list[str]] = defaultdict(list)
    seen: dict[str, list[str]] = defaultdict(list)
    for subject, event_id in kept:
        order[subject].append(event_id)
    lines = [line.split() for line in file.read_text().splitlines()]
    for subject, event_id in [*lines, *((event.subject, event.id) for event in told.events)]:
        if event_id not in seen[subject]:
            seen[subject].append(event_id)
    assert seen == order
    assert len(lines) == 19
    assert set(expected) == set(order)


@only_postgresql
async def test_a_relay_of_another_process_is_woken(engine: AsyncEngine, url: str) -> None:
    told = Told()
    sleepy = replace(LIMITS, poll=3600)
    async with (
        telling(url, DATABASE, LETTERS, told, sleepy, real, application="there") as (_, checks),
        telling(url, DATABASE, LETTERS, None, sleepy, real, application="here") as (stir, no_checks),
    ):
        for number in range(5):
            await write(engine, LETTERS, str(number))
            stir()
            await until_told(engine, LETTERS)
        assert [check.name for check in checks] == ["outbox"]
        assert no_checks == ()
    assert len(told.events) == 5


@only_postgresql
async def test_who_listens_to_another_channel_is_left_alone(engine: AsyncEngine) -> None:
    heard: list[str] = []
    ears = {name: Wakeups(engine, name, partial(heard.append, name)) for name in ("letters", "stamps")}
    async with background(*(each.run() for each in ears.values())):
        async with asyncio.timeout(30):
            while len(heard) < 2:  # each looks once when it begins to listen  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            heard.clear()
            ears["letters"].stir()
            while not heard:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        ears["stamps"].stir()
        async with asyncio.timeout(30):
            while "stamps" not in heard:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert heard == ["letters", "stamps"]


@pytest.mark.parametrize("channel", ["", "Letters", "letters; DROP TABLE letters", 'a"b', "a" * 64, "1a", "a\n"])
@pytest.mark.parametrize("kind", ["sqlite"], scope="session")
async def test_a_name_that_is_none_for_a_channel_is_refused(engine: AsyncEngine, channel: str) -> None:
    with pytest.raises(ValueError, match="no name for a channel"):
        Wakeups(engine, channel, lambda: None)


async def test_relays_go_on_after_an_outage(tmp_path: Path) -> None:
    server = Postgres(tmp_path / "postgres", keep=True)
    async with server:
        url = await server.create_database("letters")
        told = Told()
        async with open_engine(url, DATABASE) as engine:
            async with engine.begin() as connection:
                await connection.run_sync(METADATA.create_all)
            relay = Relay(Outbox(engine, LETTERS), told, LIMITS, real)
            async with background(relay.run(), Wakeups(engine, "letters", relay.stir).run()):
                await write(engine, LETTERS, "one", count=2)
                await until_told(engine, LETTERS)
                await server.unit.stop()
                await asyncio.sleep(0.2)
                await server.unit.start()
                await write(engine, LETTERS, "one", count=2)
                await until_told(engine, LETTERS)
    server.discard()
    assert len(told.events) == 4
