"""What was taken back is known again to services that have to hear of it anew, for as long as it matters."""

import asyncio

import pytest
from people import NOW, happened
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.audit import Kind
from auth.family import Family
from auth.sql_audit import SqlAudit
from auth.sql_families import SqlFamilies
from auth.sql_revocations import SqlRevocations
from grpc_common.fixed_clock import FixedClock
from grpc_common.revocations import Revocation

UNTIL = NOW.timestamp() + 900 + 120
"""When a token that was issued just before is over, also by a clock that is ahead."""


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW.timestamp())


@pytest.fixture
def revocations(engine: AsyncEngine, clock: FixedClock) -> SqlRevocations:
    return SqlRevocations(engine, clock)


async def test_sessions_and_tokens_are_known_until_they_are_over(
    revocations: SqlRevocations, engine: AsyncEngine, clock: FixedClock
) -> None:
    families, audit = SqlFamilies(engine), SqlAudit(engine)
    for number in range(3):
        family = Family(f"{number}" * 32, "alice", "web", frozenset(), b"", b"", 0, 0.0, 0.0)
        await families.add(family)
    await families.revoke("0" * 32, "reused", NOW.timestamp())
    await families.revoke_all("alice", "disabled", NOW.timestamp(), keep="1" * 32)
    await audit.record(happened(Kind.TOKEN_REVOKED, "billing", token_id="t-1"))
    await audit.record(happened(Kind.LOGIN_FAILED, "alice", session_id="s-1", token_id="t-2"))

    known = {Revocation(each, UNTIL) for each in ("0" * 32, "2" * 32, "t-1")}
    assert set(await revocations.recent()) == known
    clock.now = UNTIL - 0.001
    assert set(await revocations.recent()) == known
    assert await revocations.forget(10) == 0
    clock.now = UNTIL
    assert await revocations.recent() == []


async def test_what_is_over_is_forgotten_a_little_at_a_time(
    revocations: SqlRevocations, engine: AsyncEngine, clock: FixedClock
) -> None:
    audit = SqlAudit(engine)
    for number in range(7):
        await audit.record(happened(Kind.TOKEN_REVOKED, token_id=f"t-{number}"))
    clock.now = UNTIL

    assert [await revocations.forget(3) for _ in range(4)] == [3, 3, 1, 0]


async def test_several_who_forget_at_once_forget_each_once(
    revocations: SqlRevocations, engine: AsyncEngine, clock: FixedClock
) -> None:
    audit = SqlAudit(engine)
    await asyncio.gather(*(audit.record(happened(Kind.TOKEN_REVOKED, token_id=f"t-{n}")) for n in range(30)))
    assert len(await revocations.recent()) == 30
    clock.now = UNTIL

    forgotten = await asyncio.gather(*(revocations.forget(10) for _ in range(4)))
    while count := await revocations.forget(10):
        forgotten.append(count)

    assert sum(forgotten) == 30
