"""Work beside a block ends with it, and a block does not end with its work."""

import asyncio

import pytest
import structlog

from grpc_common.background import background


async def test_work_ends_with_the_block_and_may_tidy_up() -> None:
    begun, done = asyncio.Event(), []

    async def work() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            done.append("tidy")

    async with background(work()):
        await begun.wait()
        assert not done
    assert done == ["tidy"]


async def test_work_that_breaks_is_logged_and_the_block_goes_on() -> None:
    broken = asyncio.Event()

    async def work() -> None:
        broken.set()
        raise LookupError("gone")

    with structlog.testing.capture_logs() as lines:
        async with background(work()):
            await broken.wait()
            await asyncio.sleep(0)
        (line,) = lines

    assert line["log_level"] == "error"
    assert isinstance(line["exc_info"], LookupError)


async def test_an_error_of_the_block_is_the_blocks_own() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(LookupError):
        async with background(work()):
            await asyncio.sleep(0)
            raise LookupError
    assert ended
