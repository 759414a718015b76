"""The helpers for streams: order, completion, back-pressure, and no task left behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_common.streaming import answered, batched


class Source:
    """Gives numbers, then an error if it has one, and counts how many were taken."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self._count = count
        self._error = error
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[int]:
        for number in range(self._count):
            self.taken += 1
            yield number
            await asyncio.sleep(0)
        if self._error:
            raise self._error


async def times_ten(number: int) -> int:
    await asyncio.sleep(0)
    return number * 10


def others() -> set["asyncio.Task[object]"]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


@given(count=st.integers(0, 60), size=st.integers(1, 12))
@settings(max_examples=100, deadline=None)
async def test_batches_keep_the_order_and_leave_nothing_out(count: int, size: int) -> None:
    """**Feature: grpc-microservices-support, Property 11: Client Streaming Message Reception**"""
    found = [batch async for batch in batched(aiter(Source(count)), size)]

    assert [each for batch in found for each in batch] == list(range(count))
    assert all(len(batch) == size for batch in found[:-1])
    assert all(found)


async def test_a_batch_that_an_error_cuts_is_not_given() -> None:
    found: list[list[int]] = []
    with pytest.raises(ValueError, match="cut"):
        async for batch in batched(aiter(Source(7, ValueError("cut"))), 3):
            found.append(batch)  # noqa: PERF401  # an error would take the list with it

    assert found == [[0, 1, 2], [3, 4, 5]]


@given(count=st.integers(0, 60), ahead=st.integers(1, 12))
@settings(max_examples=100, deadline=None)
async def test_every_request_is_answered_in_its_order(count: int, ahead: int) -> None:
    """**Feature: grpc-microservices-support, Property 10: Server Streaming Message Delivery**"""
    found = [answer async for answer in answered(aiter(Source(count)), times_ten, ahead=ahead)]

    assert found == [number * 10 for number in range(count)]
    assert not others()


async def test_answers_are_given_while_requests_still_come() -> None:
    asked: asyncio.Queue[int] = asyncio.Queue()

    async def requests() -> AsyncIterator[int]:
        while True:
            yield await asked.get()

    async with aclosing(answered(requests(), times_ten)) as answers:
        for number in range(3):
            asked.put_nowait(number)
            assert await anext(answers) == number * 10


async def test_requests_are_read_while_nobody_takes_the_answers_and_only_so_many() -> None:
    source = Source(1000)
    async with aclosing(answered(aiter(source), times_ten, ahead=5)) as answers:
        assert await anext(answers) == 0
        for _ in range(500):
            await asyncio.sleep(0)

        # Given, waiting for the reader, in the worker's hand, waiting for the worker, in the hand that reads.
        assert source.taken == 1 + 5 + 1 + 5 + 1

    assert not others()


async def test_an_error_comes_after_the_answers_before_it() -> None:
    async def answer(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    found: list[int] = []
    with pytest.raises(ValueError, match="three"):
        async for one in answered(aiter(Source(1000)), answer, ahead=2):
            found.append(one)  # noqa: PERF401  # an error would take the list with it

    assert found == [0, 1, 2]
    assert not others()


async def test_an_error_of_the_requests_comes_after_all_answers() -> None:
    found: list[int] = []
    with pytest.raises(ValueError, match="cut"):
        async for one in answered(aiter(Source(4, ValueError("cut"))), times_ten, ahead=2):
            found.append(one)  # noqa: PERF401  # an error would take the list with it

    assert found == [0, 10, 20, 30]
    assert not others()


@pytest.mark.parametrize("turns", range(12))
async def test_who_is_cancelled_leaves_no_task(turns: int) -> None:
    async def consume() -> None:
        async with aclosing(answered(aiter(Source(1000)), times_ten, ahead=1)) as answers:
            async for _ in answers:
                await asyncio.sleep(0)

    task = asyncio.create_task(consume())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not others()
