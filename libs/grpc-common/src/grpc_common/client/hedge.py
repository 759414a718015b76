"""A second attempt beside a slow first one: whichever is answered first counts."""

import asyncio
from collections.abc import Callable
from typing import Any

from grpc import aio

from grpc_common.client.call import ClientCall
from grpc_common.client.remote_error import as_trailers
from grpc_common.outcome import is_cancelled


class Race:
    """One attempt, and another when the first has not been answered after what is slow for the method."""

    __slots__ = ("_call", "_first", "_second", "_second_inner", "_send", "_won")

    def __init__(self, call: ClientCall, send: Callable[[ClientCall, float], Any]) -> None:
        self._call = call
        self._send = send
        self._first: Any = None
        self._second: asyncio.Task[None] | None = None
        self._second_inner: Any = None
        self._won: bytes | None = None

    async def run(self) -> bytes:
        """Return the first reply; raise what the first attempt failed with when the other brought none."""
        call = self._call
        method = call.method
        method.hedges.call()
        delay = method.hedge_delay()
        call.inner = self._first = self._send(call, call.begin_attempt())
        if delay is None or delay >= call.left or call.attempts >= method.plan.attempts:
            raw: bytes = await self._first
            return raw
        timer = asyncio.get_running_loop().call_later(delay, self._begin_second)
        try:
            raw = await self._first
        except asyncio.CancelledError:
            if self._won is None or is_cancelled():
                raise
            call.inner = self._second_inner
            return self._won
        except aio.AioRpcError as rpc:
            timer.cancel()
            if self._second is None or rpc.code() not in method.plan.codes or as_trailers(rpc.initial_metadata()):
                raise
            await asyncio.wait((self._second,))
            if self._won is None:
                raise
            call.inner = self._second_inner
            return self._won
        else:
            return raw
        finally:
            timer.cancel()
            if self._second is not None:
                self._second.cancel()

    def _begin_second(self) -> None:
        call = self._call
        method = call.method
        connection = method.connection
        if connection.closed or not connection.budget.allows or not method.hedges.take():
            return
        call.hedges += 1
        method.metrics.hedges += 1
        if call.span.is_recording():
            call.span.add_event("hedged", {"attempt": call.attempts + 1})
        self._second_inner = self._send(call, call.begin_attempt())
        self._second = asyncio.create_task(self._wait_for_second(), name="hedge")

    async def _wait_for_second(self) -> None:
        try:
            won = await self._second_inner
        except aio.AioRpcError as rpc:
            self._call.failed(rpc)
            return
        self._won = won
        self._first.cancel()
