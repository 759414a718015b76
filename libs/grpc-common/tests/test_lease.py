"""A lease ends the work inside of it, and nothing but that."""

import asyncio
from contextlib import suppress

import pytest

from grpc_common import lease as lease_module
from grpc_common.call import Call, Method
from grpc_common.lease import Lease, Term


class OverError(Exception):
    pass


async def test_work_in_time_is_left_alone():
    with Lease(0.02, OverError):
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)


@pytest.mark.parametrize("seconds", [0.01, 0.0, -5.0])
async def test_work_is_ended_with_the_error_it_was_given(seconds):
    with pytest.raises(OverError) as caught, Lease(seconds, OverError):
        await asyncio.sleep(60)
    assert caught.value.__suppress_context__
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0)


async def test_it_can_be_ended_from_outside_once():
    with pytest.raises(OverError, match="first"), Lease(60, OverError) as lease:
        lease.end(OverError("first"))
        lease.end(OverError("second"))
        await asyncio.sleep(60)
    assert asyncio.current_task().cancelling() == 0


@pytest.mark.parametrize("error", [TimeoutError("own"), ValueError("own"), OverError("own")])
async def test_an_error_of_the_work_is_its_own(error):
    with pytest.raises(type(error), match="own") as caught, Lease(60, OverError):
        raise error
    assert caught.value is error


async def test_an_error_of_the_work_on_its_way_out_is_its_own():
    with pytest.raises(TimeoutError, match="own"), Lease(0.0, OverError):
        try:
            await asyncio.sleep(60)
        finally:
            raise TimeoutError("own")
    assert asyncio.current_task().cancelling() == 0


async def test_a_timeout_of_the_work_is_its_own():
    with pytest.raises(TimeoutError), Lease(60, OverError):
        async with asyncio.timeout(0.0):
            await asyncio.sleep(60)
    async with asyncio.timeout(60):
        with pytest.raises(OverError), Lease(0.0, OverError):
            async with asyncio.timeout(60):
                await asyncio.sleep(60)


async def test_a_task_group_inside_is_ended_with_its_children():
    ended = []

    async def child() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    with pytest.raises(OverError), Lease(0.01, OverError):
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            group.create_task(child())
    assert ended == [True, True]


async def test_cut_work_that_says_it_is_complete_is_not():
    with pytest.raises(OverError), Lease(0.0, OverError), suppress(asyncio.CancelledError):
        await asyncio.sleep(60)


@pytest.mark.parametrize("also_expired", [False, True])
async def test_a_cancellation_from_elsewhere_passes(also_expired):
    async def work() -> None:
        with Lease(60, OverError) as lease:
            entered.set_result(lease)
            await asyncio.sleep(60)

    entered = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(work())
    lease = await entered
    if also_expired:
        lease.end(OverError())
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_cancelled_future_of_the_work_is_its_own():
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    with pytest.raises(asyncio.CancelledError), Lease(60, OverError):
        await future


async def test_a_reply_that_is_being_sent_is_sent_to_its_end_first():
    """Core takes no status while it sends: a lease that ends in the midst of a write waits for the write."""
    call = Call(Method("/a/b", "a", "b", request_streaming=False, response_streaming=True), None)
    sent = False
    with pytest.raises(OverError), Lease(0.0, OverError, call):
        call.writing += 1
        await asyncio.sleep(0.05)
        sent = True
        call.writing -= 1
        for resume in tuple(call.after_write):
            resume()
        await asyncio.sleep(5)
    assert sent
    assert not call.after_write
    assert not asyncio.current_task().cancelling()


async def test_a_write_that_never_ends_is_cut(monkeypatch):
    monkeypatch.setattr(lease_module, "WRITE_ENDS_WITHIN", 0.05)
    call = Call(Method("/a/b", "a", "b", request_streaming=False, response_streaming=True), None)
    call.writing = 1
    with pytest.raises(OverError), Lease(0.0, OverError, call):
        await asyncio.sleep(5)
    assert not call.after_write


class TestTerm:
    async def test_each_lease_ends_at_its_own_time(self):
        term, ended = Term(0.05, OverError), []
        loop = asyncio.get_running_loop()

        async def work(name, pause):
            await asyncio.sleep(pause)
            began = loop.time()
            with pytest.raises(OverError), term.lease():
                await asyncio.sleep(60)
            ended.append((name, loop.time() - began >= 0.05))

        await asyncio.gather(*(work(name, name * 0.01) for name in range(5)))
        assert ended == [(name, True) for name in range(5)]

    async def test_work_in_time_is_left_alone_and_forgotten(self):
        term = Term(0.02, OverError)
        for _ in range(3):
            with term.lease():
                await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        with pytest.raises(OverError), term.lease():  # its timer goes off again after it had nothing to do
            await asyncio.sleep(60)

    def test_it_serves_one_loop_after_another(self):
        term = Term(0.02, OverError)

        async def abandon():
            lease = term.lease()
            lease.__enter__()

        async def work():
            with pytest.raises(OverError), term.lease():
                await asyncio.sleep(60)

        asyncio.run(abandon())
        asyncio.run(work())
        asyncio.run(work())

    async def test_a_reply_that_is_being_sent_is_sent_to_its_end_first(self):
        call = Call(Method("/a/b", "a", "b", request_streaming=False, response_streaming=True), None)
        with pytest.raises(OverError), Term(0.01, OverError).lease(call):
            call.writing += 1
            await asyncio.sleep(0.05)
            call.writing -= 1
            for resume in tuple(call.after_write):
                resume()
            await asyncio.sleep(5)
        assert not call.after_write
