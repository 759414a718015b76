"""Passwords: what is kept of them, how long a check takes, and that many at once hurt nobody else."""

import asyncio
import statistics
import threading
import time
import unicodedata

import argon2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from auth.password import Cost, PasswordHasher, Verdict
from grpc_common.errors import DatabaseError, RateLimitError

CHEAP = Cost(passes=1, memory=64, lanes=1)
DEAR = Cost(passes=3, memory=32 * 1024, lanes=1)
"""Some ten milliseconds: what a hash costs stands out from all else."""


def secret(text: str) -> SecretStr:
    return SecretStr(text)


@settings(max_examples=100, deadline=None)
@given(right=st.text(), wrong=st.text())
async def test_a_password_is_verified_by_what_is_kept_of_it_and_another_is_not(right: str, wrong: str) -> None:
    same = unicodedata.normalize("NFKC", right) == unicodedata.normalize("NFKC", wrong)
    async with PasswordHasher(CHEAP) as hasher:
        kept = await hasher.hash(secret(right))

        assert await hasher.verify(secret(right), kept) == Verdict(right=True)
        assert await hasher.verify(secret(wrong), kept) == Verdict(right=same)


async def test_the_same_password_is_kept_in_another_way_each_time() -> None:
    async with PasswordHasher(CHEAP) as hasher:
        first, second = await hasher.hash(secret("correct horse")), await hasher.hash(secret("correct horse"))

    assert first.get_secret_value() != second.get_secret_value()
    assert first.get_secret_value().startswith("$argon2id$v=19$m=64,t=1,p=1$")


async def test_a_letter_may_be_typed_in_either_of_its_forms() -> None:
    async with PasswordHasher(CHEAP) as hasher:
        kept = await hasher.hash(secret("caf\u00e9"))

        assert (await hasher.verify(secret("cafe\u0301"), kept)).right


async def test_a_hash_of_another_cost_is_outdated_and_whose_password_is_wrong_does_not_learn_it() -> None:
    async with PasswordHasher(CHEAP) as before:
        old = await before.hash(secret("correct horse"))
    async with PasswordHasher(Cost(passes=2, memory=128, lanes=1)) as hasher:
        wrong = await hasher.verify(secret("battery staple"), old)
        right = await hasher.verify(secret("correct horse"), old)

        assert wrong == Verdict(right=False)
        assert right == Verdict(right=True, outdated=True)
        anew = await hasher.hash(secret("correct horse"))
        assert await hasher.verify(secret("correct horse"), anew) == Verdict(right=True)


@pytest.mark.parametrize("kept", ["", "x", "$argon2id$", "$argon2id$v=19$m=64,t=1,p=1$AAAA", "$2b$12$abc"])
async def test_what_is_no_hash_is_an_error_that_does_not_quote_it(kept: str) -> None:
    async with PasswordHasher(CHEAP) as hasher:
        with pytest.raises(DatabaseError) as caught:
            await hasher.verify(secret("correct horse"), secret(kept))

    assert "$" not in str(caught.value)
    assert "correct" not in str(caught.value)


async def test_another_kind_of_argon2_is_not_accepted() -> None:
    other = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1, type=argon2.Type.I).hash("correct horse")
    async with PasswordHasher(CHEAP) as hasher:
        with pytest.raises(DatabaseError):
            await hasher.verify(secret("correct horse"), secret(other))


async def test_a_user_who_is_not_there_has_no_password() -> None:
    async with PasswordHasher(CHEAP) as hasher:
        assert await hasher.verify(secret(""), None) == Verdict(right=False)


async def test_a_user_who_is_not_there_takes_as_long_as_a_wrong_password() -> None:
    async with PasswordHasher(DEAR, at_once=1) as hasher:
        kept = await hasher.hash(secret("correct horse"))
        there, absent = [], []
        for _ in range(7):  # in turns, so that what else the machine does meets both
            there.append(await cpu_seconds(hasher, kept))
            absent.append(await cpu_seconds(hasher, None))

    assert 0.5 < statistics.median(absent) / statistics.median(there) < 2


async def cpu_seconds(hasher: PasswordHasher, kept: SecretStr | None) -> float:
    """Processor time, which others on the machine do not change as much as the time that passes."""
    begun = time.process_time()
    await hasher.verify(secret("battery staple"), kept)
    return time.process_time() - begun


async def test_passwords_are_hashed_in_the_threads_and_not_on_the_loop() -> None:
    async with PasswordHasher(CHEAP, at_once=1) as hasher:
        gate = threading.Event()
        hasher._threads.submit(gate.wait)
        work = [asyncio.ensure_future(each) for each in (hasher.hash(secret("x")), hasher.verify(secret("x"), None))]
        await asyncio.sleep(0)
        assert not any(each.done() for each in work)

        gate.set()
        await asyncio.gather(*work)


async def test_what_is_too_much_at_once_is_refused_and_leaves_room_when_it_is_done() -> None:
    async with PasswordHasher(DEAR, at_once=1, waiting=2) as hasher:
        answers = await asyncio.gather(*(hasher.hash(secret("x")) for _ in range(10)), return_exceptions=True)

        assert [type(answer) for answer in answers] == [SecretStr] * 3 + [RateLimitError] * 7
        assert isinstance(await hasher.hash(secret("x")), SecretStr)


async def test_no_more_are_worked_on_at_once_than_said() -> None:
    async with PasswordHasher(CHEAP, at_once=2, waiting=50) as hasher:
        await asyncio.gather(*(hasher.hash(secret("x")) for _ in range(50)))

        assert len(hasher._threads._threads) <= 2


async def test_a_call_that_is_given_up_while_it_waits_leaves_its_room() -> None:
    async with PasswordHasher(DEAR, at_once=1, waiting=1) as hasher:
        working = asyncio.ensure_future(hasher.hash(secret("x")))
        waiting = asyncio.ensure_future(hasher.hash(secret("y")))
        await asyncio.sleep(0)
        with pytest.raises(RateLimitError):
            await hasher.hash(secret("z"))

        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.sleep(0)

        assert isinstance(await hasher.hash(secret("z")), SecretStr)
        assert isinstance(await working, SecretStr)


async def test_nothing_shown_of_it_holds_a_password_or_a_hash() -> None:
    async with PasswordHasher(CHEAP) as hasher:
        kept = await hasher.hash(secret("correct horse"))

    assert "$argon2" not in f"{kept!r} {kept}"


@pytest.mark.parametrize(("at_once", "waiting"), [(0, 1), (1, -1)])
def test_limits_that_let_nothing_through_are_refused(at_once: int, waiting: int) -> None:
    with pytest.raises(ValueError, match="hashing needs"):
        PasswordHasher(CHEAP, at_once=at_once, waiting=waiting)
