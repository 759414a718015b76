"""Whoever may not log in is refused after the same work: one hash, neither more nor less."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import override

import pytest
import pytest_asyncio
from people import NOW, a_user, happened
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.audit import Kind
from auth.caller import Caller
from auth.credentials import Credentials, LoginRefusedError
from auth.guard_limits import GuardLimits
from auth.memory_guard import MemoryGuard
from auth.password import Cost, PasswordHasher, Verdict
from auth.recorder import Recorder
from auth.sql_audit import SqlAudit
from auth.sql_users import SqlUsers
from auth.turns import Turns

PASSWORD, WRONG = SecretStr("seven ducks in a quiet row"), SecretStr("eleven geese on a windy hill")
CHEAP, DEARER = Cost(passes=1, memory=64), Cost(passes=2, memory=64)
HERE = Caller("192.0.2.1")


class CountingHasher(PasswordHasher):
    """Counts what takes time."""

    work = 0

    @override
    async def hash(self, password: SecretStr) -> SecretStr:
        self.work += 1
        return await super().hash(password)

    @override
    async def verify(self, password: SecretStr, kept: SecretStr | None) -> Verdict:
        self.work += 1
        return await super().verify(password, kept)


@pytest_asyncio.fixture
async def hasher() -> AsyncIterator[CountingHasher]:
    async with CountingHasher(DEARER) as hasher:
        yield hasher


@pytest_asyncio.fixture
async def credentials(engine: AsyncEngine, hasher: CountingHasher) -> Credentials:
    """Those of alice, of disabled dora, and of olaf, whose hash was made at another cost."""
    users = SqlUsers(engine)
    async with PasswordHasher(CHEAP) as before:
        old = await before.hash(PASSWORD)
    new = await hasher.hash(PASSWORD)
    for user in (a_user("alice"), a_user("dora", disabled=True), replace(a_user("olaf"), password_hash=old)):
        kept = user if user.username == "olaf" else replace(user, password_hash=new)
        await users.add(kept, happened(Kind.USER_CREATED))
    guard = MemoryGuard(GuardLimits(failures=3))
    return Credentials(users, hasher, Turns(at_once=4, waiting=10), guard, Recorder(SqlAudit(engine), lambda: NOW))


@pytest.mark.parametrize(
    ("username", "password", "locked"),
    [
        ("alice", WRONG, False),
        ("nobody", PASSWORD, False),
        ("dora", PASSWORD, False),
        ("dora", WRONG, False),
        ("alice", PASSWORD, True),
        ("alice", WRONG, True),
        ("nobody", WRONG, True),
        ("olaf", PASSWORD, True),
        ("olaf", WRONG, False),
    ],
)
async def test_every_refusal_takes_one_hash(
    credentials: Credentials, hasher: CountingHasher, username: str, password: SecretStr, locked: bool
) -> None:
    for _ in range(3 if locked else 0):
        with pytest.raises(LoginRefusedError):
            await credentials.prove(username, WRONG, HERE)
    hasher.work = 0

    with pytest.raises(LoginRefusedError) as refused:
        await credentials.prove(username, password, HERE)

    assert hasher.work == 1
    assert refused.value.message == "the user name or the password is wrong"


async def test_a_hash_of_another_cost_is_replaced_once_its_user_is_in(
    credentials: Credentials, hasher: CountingHasher
) -> None:
    first = await credentials.prove("olaf", PASSWORD, HERE)
    assert "$m=64,t=2,p=1$" in first.password_hash.get_secret_value()
    hasher.work = 0

    assert await credentials.prove("olaf", PASSWORD, HERE) == first
    assert hasher.work == 1
