"""What a database adds to the contract of families: what is told, what runs at the same time, what is wrong."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from people import a_user, happened
from sqlalchemy import bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncEngine
from told import told

from auth.audit import Kind, SecurityEvent
from auth.family import MOST_ROTATIONS, Family, Login
from auth.sql_families import SqlFamilies
from auth.sql_users import SqlUsers
from auth.table import FAMILIES, OUTBOX
from grpc_common.database.engine import Limits, open_engine
from grpc_common.errors import DatabaseError, ExternalServiceError

NOW = 1_800_000_000.25


@pytest.fixture
def families(engine: AsyncEngine) -> SqlFamilies:
    return SqlFamilies(engine)


def a_family(number: int = 0, subject: str = "alice", **changes: Any) -> Family:
    family = Family(
        id=f"{number:032x}",
        subject=subject,
        client_id="web",
        scopes=frozenset({"items:read"}),
        salt=bytes(16),
        token_hash=bytes(32),
        generation=0,
        created_at=NOW,
        rotated_at=NOW,
    )
    return replace(family, **changes)


async def added(families: SqlFamilies, *several: Family) -> Sequence[Family]:
    for family in several:
        await families.add(family)
    return several


def revoked(family: Family, reason: str, at: float = NOW) -> SecurityEvent:
    return SecurityEvent(
        kind=Kind.SESSION_REVOKED,
        at=datetime.fromtimestamp(at, UTC),
        subject=family.subject,
        client_id=family.client_id,
        session_id=family.id,
        reason=reason,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"rotated_at": 1e9 + 0.1 + 0.2, "used_at": (1 / 3, 0.1 + 0.2, 1.8e9 + 1e-6)},
        {"used_at": tuple(NOW + number / 7 for number in range(MOST_ROTATIONS))},
        {"used_at": (1.0, 2.0)},
        {"generation": 999_999_999},
        {"scopes": frozenset()},
        {"salt": b"", "token_hash": bytes(range(32))},
        {"revoked": "password_changed"},
    ],
)
async def test_every_value_comes_back_as_it_was(families: SqlFamilies, changes: dict[str, Any]) -> None:
    (family,) = await added(families, a_family(**changes))

    found = await families.find(family.id)

    assert found == family
    assert found is not None
    assert [type(moment) for moment in found.used_at] == [float] * len(family.used_at)


async def test_what_is_revoked_is_told_once(families: SqlFamilies, engine: AsyncEngine) -> None:
    (family,) = await added(families, a_family())

    await asyncio.gather(*(families.revoke(family.id, "reused", NOW + 1) for _ in range(20)))
    await families.revoke(family.id, "logged_out", NOW + 2)
    await families.revoke_all("alice", "administrator", NOW + 3)
    await families.revoke("f" * 32, "logged_out", NOW + 4)

    assert await told(engine) == [revoked(family, "reused", NOW + 1)]


async def test_all_that_are_revoked_together_are_told(families: SqlFamilies, engine: AsyncEngine) -> None:
    first, kept, third, gone, other = await added(
        families, *map(a_family, range(3)), a_family(3, revoked="reused"), a_family(4, subject="bob")
    )

    assert await families.revoke_all("alice", "disabled", NOW, keep=kept.id) == 2

    assert sorted(await told(engine), key=lambda event: event.session_id) == [
        revoked(first, "disabled"),
        revoked(third, "disabled"),
    ]
    assert await families.find(kept.id) == kept
    assert await families.find(gone.id) == gone
    assert await families.find(other.id) == other


async def test_sessions_do_not_wait_for_each_other_to_be_told(families: SqlFamilies, engine: AsyncEngine) -> None:
    await added(families, *map(a_family, range(3)))

    await families.revoke_all("alice", "disabled", NOW)

    async with engine.connect() as connection:
        assert set(await connection.scalars(select(OUTBOX.c.subject))) == {f"{number:032x}" for number in range(3)}


async def test_who_listens_hears_of_revocations(engine: AsyncEngine) -> None:
    heard: list[int] = []
    families = SqlFamilies(engine, lambda: heard.append(1))

    await added(families, *map(a_family, range(2)))
    assert heard == []
    await families.revoke(a_family(0).id, "logged_out", NOW)
    assert len(heard) == 1
    await families.revoke_all("alice", "disabled", NOW)
    assert len(heard) == 2


async def test_all_are_revoked_whatever_is_refreshed_meanwhile(families: SqlFamilies, engine: AsyncEngine) -> None:
    several = await added(families, *map(a_family, range(8)))
    begun, stop = asyncio.Event(), asyncio.Event()

    async def refresh(family: Family) -> int:
        while not stop.is_set() and await families.replace(family := family.rotated(bytes(32), NOW, 0)):
            begun.set()
        return family.generation

    refreshing = [asyncio.create_task(refresh(family)) for family in several]
    try:
        await begun.wait()
        count = await families.revoke_all("alice", "disabled", NOW)
    finally:
        stop.set()
        generations = await asyncio.gather(*refreshing)

    assert count == 8
    assert max(generations) > 1  # they were at it
    assert len(await told(engine)) == 8
    for family in several:
        found = await families.find(family.id)
        assert found is not None
        assert found.revoked == "disabled"


async def test_many_who_revoke_all_at_once_never_wait_for_ever(families: SqlFamilies, engine: AsyncEngine) -> None:
    await added(families, *map(a_family, range(40)))
    ways = [families.revoke_all("alice", "disabled", NOW) for _ in range(6)]
    ways += [families.forget(NOW + 1, 10), families.forget(NOW + 1, 10)]

    *revoked_by, first, second = await asyncio.gather(*ways)

    left = [await families.find(family.id) for family in map(a_family, range(40))]
    assert sum(family is None for family in left) == first + second
    assert sum(family is not None and family.revoked == "disabled" for family in left) == 40 - first - second
    assert len(await told(engine)) == sum(revoked_by)


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True, scope="session")
async def test_rows_are_locked_in_one_order_whatever_order_they_lie_in(
    families: SqlFamilies, engine: AsyncEngine, migrated_url: str, limits: Limits
) -> None:
    """On PostgreSQL: who waits for the first has no other, so that nobody who has that one can wait for him."""
    *_, last = await added(families, *map(a_family, (5, 4, 3, 2, 1)))
    locking = select(FAMILIES.c.id).where(FAMILIES.c.id == bindparam("id")).with_for_update(nowait=True)
    async with open_engine(migrated_url, limits) as other, other.begin() as holder:
        await holder.execute(locking, {"id": last.id})
        revoking = asyncio.create_task(families.revoke_all("alice", "disabled", NOW))
        async with asyncio.timeout(10):
            while not await holder.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                await holder.execute(text("SELECT pg_sleep(0.01)"))

        for number in (2, 3, 4, 5):
            await holder.execute(locking, {"id": a_family(number).id})

    assert await revoking == 5


async def test_the_old_are_forgotten_and_no_more_than_asked(families: SqlFamilies) -> None:
    await added(families, *(a_family(number, rotated_at=NOW + number) for number in range(6)))

    assert [await families.forget(NOW + 4, 3) for _ in range(3)] == [3, 1, 0]
    assert [await families.find(f"{number:032x}") is None for number in range(6)] == [True] * 4 + [False] * 2


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True, scope="session")
async def test_who_is_about_to_change_is_not_waited_for(
    families: SqlFamilies, migrated_url: str, limits: Limits
) -> None:
    """On PostgreSQL; whoever writes to SQLite is alone."""
    await added(families, *map(a_family, range(3)))
    async with open_engine(migrated_url, limits) as other, other.begin() as holder:
        await holder.execute(text("UPDATE families SET generation = 1 WHERE id = :id"), {"id": a_family(1).id})

        assert await families.forget(NOW + 1, 10) == 2

    assert await families.forget(NOW + 1, 10) == 1


async def test_several_who_forget_at_once_forget_each_once(families: SqlFamilies) -> None:
    await added(families, *(a_family(number) for number in range(40)))

    forgotten = await asyncio.gather(*(families.forget(NOW + 1, 10) for _ in range(4)))
    while count := await families.forget(NOW + 1, 10):
        forgotten.append(count)

    assert sum(forgotten) == 40


@pytest.mark.parametrize("nobody", ["", "a\0b", "\ud800"])
async def test_what_nobody_can_have_is_nowhere(families: SqlFamilies, nobody: str) -> None:
    await added(families, a_family())

    assert await families.find(nobody) is None
    assert not await families.revoke(nobody, "logged_out", NOW)
    assert await families.revoke_all(nobody, "disabled", NOW) == 0
    assert await families.revoke_all("alice", "disabled", NOW, keep=nobody) == 1


async def test_an_id_is_given_once_and_only_that_is_told(families: SqlFamilies, engine: AsyncEngine) -> None:
    alice, begun = a_user(id="alice"), happened(Kind.LOGGED_IN, "alice")
    await SqlUsers(engine).add(alice, happened(Kind.USER_CREATED, "alice"))
    assert await families.add(a_family(), Login(alice, begun))

    with pytest.raises(DatabaseError):
        await families.add(a_family(), Login(alice, begun))

    assert await families.find(a_family().id) == a_family()
    assert await told(engine) == [happened(Kind.USER_CREATED, "alice"), begun]


async def test_what_waits_too_long_is_unavailable_and_undone(
    migrated_url: str, families: SqlFamilies, engine: AsyncEngine, limits: Limits
) -> None:
    (family,) = await added(families, a_family())
    async with engine.begin() as holder, open_engine(migrated_url, replace(limits, statement_timeout=3)) as other:
        await holder.execute(text("UPDATE families SET generation = generation"))
        impatient = SqlFamilies(other)
        for verb in (
            impatient.replace(family.rotated(bytes(32), NOW, 10)),
            impatient.revoke(family.id, "logged_out", NOW),
            impatient.revoke_all("alice", "disabled", NOW),
        ):
            with pytest.raises(ExternalServiceError):
                await verb

    assert await families.find(family.id) == family
    assert await told(engine) == []


async def test_no_database_in_time_is_unavailable(migrated_url: str, limits: Limits) -> None:
    tight = replace(limits, connections=1, pool_timeout=0.05)
    async with open_engine(migrated_url, tight) as engine, engine.connect():
        families = SqlFamilies(engine)
        for verb in (families.find("x"), families.add(a_family()), families.forget(NOW, 1)):
            with pytest.raises(ExternalServiceError):
                await verb


def test_what_is_looked_for_by_many_has_an_index() -> None:
    indexed = {index.columns[0].name for index in FAMILIES.indexes}

    assert indexed == {"subject", "rotated_at"}
