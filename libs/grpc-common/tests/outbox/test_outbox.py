"""The table of events: written with a change or not at all, handed out once, and again when their relay is dead."""

from datetime import timedelta

import pytest
from outbox.letters import LETTERS, STAMPS, real, rows, write, written
from sqlalchemy import MetaData, Table, inspect
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.database.constraint_names import NAMES
from grpc_common.errors import DatabaseError, ExternalServiceError
from grpc_common.new_id import new_id
from grpc_common.outbox import outbox
from grpc_common.outbox.event import Event
from grpc_common.outbox.outbox import Outbox, enqueue
from grpc_common.outbox.table import outbox_table

LEASE = timedelta(seconds=9)


async def test_an_event_comes_out_as_it_went_in(engine: AsyncEngine, table: Table) -> None:
    event = Event(new_id(), "s" * 64, bytes(range(256)), real())
    async with engine.begin() as connection:
        await enqueue(connection, table, [event])

    (claim,) = await Outbox(engine, table).claim(real(), LEASE, 10)

    assert (claim.event, claim.attempt) == (event, 1)


async def test_an_event_is_there_when_its_change_is_and_only_then(engine: AsyncEngine, table: Table) -> None:
    with pytest.raises(LookupError):
        async with engine.begin() as connection:
            await enqueue(connection, table, [Event(new_id(), "one", b"", real()), Event(new_id(), "two", b"", real())])
            raise LookupError
    async with engine.begin() as connection:
        await enqueue(connection, table, [])

    assert await Outbox(engine, table).claim(real(), LEASE, 10) == []
    assert await rows(engine, table) == 0


async def test_two_outboxes_know_nothing_of_each_other(engine: AsyncEngine) -> None:
    await write(engine, LETTERS, "one")
    letters, stamps = Outbox(engine, LETTERS), Outbox(engine, STAMPS)

    assert await stamps.claim(real(), LEASE, 10) == []
    assert await stamps.oldest() is None
    (claim,) = await letters.claim(real(), LEASE, 10)
    await stamps.told([claim], real())
    assert await letters.oldest() == claim.event.at


async def test_the_same_event_is_claimed_once_and_again_when_its_relay_is_dead(
    engine: AsyncEngine, table: Table
) -> None:
    expected = await written(engine, table, subjects=5, count=2)
    events, now = Outbox(engine, table), real()

    first = await events.claim(now, LEASE, 10)
    assert {claim.event.subject for claim in first} == set(expected)
    assert await events.claim(now, LEASE, 10) == []
    again = await events.claim(now + LEASE, LEASE, 10)
    assert [claim.event for claim in again] == [claim.event for claim in first]

    await events.failed(first[0], now)  # the dead one is late: it is another's now
    assert await events.claim(now + LEASE, LEASE, 10) == []


async def test_the_oldest_are_handed_out_first_and_no_more_than_asked_for(engine: AsyncEngine, table: Table) -> None:
    for subject in "cab":
        await write(engine, table, subject, count=2)

    claims = await Outbox(engine, table).claim(real(), LEASE, 2)

    assert [(claim.event.subject, claim.event.payload) for claim in claims] == [("c", b"0"), ("a", b"0")]


async def test_the_oldest_is_the_one_that_waits_longest(engine: AsyncEngine, table: Table) -> None:
    events = Outbox(engine, table)
    assert await events.oldest() is None
    await write(engine, table, "one", "two")
    one, two = await events.claim(real(), LEASE, 10)

    await events.told([one], real())

    assert await events.oldest() == two.event.at


async def test_what_was_told_long_ago_is_forgotten_in_steps(
    engine: AsyncEngine, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "CLEARED_AT_ONCE", 2)
    await write(engine, table, "one", "two", "three", "untold")
    events, now = Outbox(engine, table), real()
    claims = await events.claim(now, LEASE, 3)
    await events.told(claims, now)

    assert await events.clear(now) == 0
    later = now + timedelta(seconds=1)
    assert [await events.clear(later), await events.clear(later), await events.clear(later)] == [2, 1, 0]
    assert await rows(engine, table) == 1


async def test_the_column_of_the_subject_is_called_as_the_service_wants(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        columns = await connection.run_sync(
            lambda sync: {
                table: [column["name"] for column in inspect(sync).get_columns(table)]
                for table in ("letter_outbox", "stamp_outbox")
            }
        )

    assert "subject" in columns["letter_outbox"]
    assert "stamp_id" in columns["stamp_outbox"]
    assert "subject" not in columns["stamp_outbox"]


async def test_a_database_without_the_table_is_an_error_and_no_surprise(engine: AsyncEngine) -> None:
    missing = Outbox(engine, outbox_table("nowhere", MetaData(naming_convention=NAMES)))

    with pytest.raises((DatabaseError, ExternalServiceError)):
        await missing.claim(real(), LEASE, 10)
