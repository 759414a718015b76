"""Streams, for the methods that have them: requests a few at a time, answers while requests still come."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress


async def batched[T](stream: AsyncIterator[T], size: int) -> AsyncIterator[list[T]]:
    """Give what comes in lists of `size`, the last one shorter and never empty. No more than one list is held.

    What came before an error, or before the caller went, and was not yet given is lost: a list is whole or not at all.
    """
    if size < 1:
        raise ValueError(f"the size is {size} and must be at least 1")
    batch: list[T] = []
    async for each in stream:
        batch.append(each)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


async def answered[Q, A](
    requests: AsyncIterator[Q], answer: Callable[[Q], Awaitable[A]], *, ahead: int = 16
) -> AsyncGenerator[A]:
    """Give the answer to each request, in their order, and read on meanwhile: up to `ahead` requests that wait to be
    answered and as many answers that wait to be sent. When either is full, the sender is held back: its requests stay
    in the network, and so does a caller who does not read its answers.

    Requests are answered one after the other. What `requests` or `answer` raises ends the stream once the answers
    before it have been given. The tasks behind it are over when the generator is, however it ends; close it
    (`contextlib.aclosing`) where it may be left midway, as the chain does.
    """
    waiting: asyncio.Queue[Q] = asyncio.Queue(ahead)
    answers: asyncio.Queue[A] = asyncio.Queue(ahead)

    async def read() -> None:
        try:
            async for request in requests:
                await waiting.put(request)
        finally:
            waiting.shutdown()

    async def work() -> None:
        try:
            while True:
                await answers.put(await answer(await waiting.get()))
        except asyncio.QueueShutDown:
            return
        finally:
            answers.shutdown()

    tasks = [asyncio.create_task(work()), asyncio.create_task(read())]
    try:
        with suppress(asyncio.QueueShutDown):
            while True:
                yield await answers.get()
        for task in tasks:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
