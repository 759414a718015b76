"""The client's side of every case."""

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Any, Final, NamedTuple

import grpc
from google.protobuf.wrappers_pb2 import StringValue
from grpc import StatusCode

from grpc_common.conformance.cable import Cable
from grpc_common.conformance.endings import SECRET, Case, Client, Request
from grpc_common.conformance.servicer import VISIT, Visit
from grpc_common.loopback import NO_PROXY

PATIENCE: Final = 3.0
"""Seconds within which everything must happen."""
SHORT: Final = 0.1
"""Seconds; the deadline of a call that is to miss it."""
MAX_MESSAGE: Final = 4096
"""Bytes; what the server under test takes as one message."""

_BODY: Final = {
    Request.GARBAGE: b"\x0a\xff" + SECRET.encode(),
    Request.OVERSIZED: StringValue(value="1" * MAX_MESSAGE).SerializeToString(),
}
_GOOD: Final = StringValue(value="1").SerializeToString()
_OWN_CONNECTION: Final = frozenset({Client.CLOSES, Client.VANISHES, Client.RUNS_OUT})


class Received(NamedTuple):
    """All that the client can tell of its call."""

    status: StatusCode | None
    """None where it never came."""
    text: str
    """Details and metadata of both ends."""
    replies: int

    @property
    def glitch(self) -> bool:
        """Whether grpc.aio's client has failed by itself: it may, while it writes to a stream that has ended."""
        return self.status is StatusCode.INTERNAL and "Internal error from Core" in self.text


class Caller:
    """Makes the calls of a matrix to the server at `port`."""

    def __init__(self, port: int, service: str, metadata: tuple[tuple[str, str], ...]) -> None:
        self._port = port
        self._service = service
        self._metadata = metadata
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", [NO_PROXY])

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def call(self, case: Case, visit: Visit, seconds: float) -> Received:
        """Make one call, and do as the ending says once the handler waits; give up after `seconds`."""
        async with AsyncExitStack() as stack:
            channel, cable = self._channel, None
            if case.ending.client in _OWN_CONNECTION:
                cable = await stack.enter_async_context(Cable(self._port))
                own = grpc.aio.insecure_channel(f"127.0.0.1:{cable.port}", [NO_PROXY])
                channel = await stack.enter_async_context(own)
            received = await self._talk(case, self._start(channel, case, visit.name, seconds), visit, channel, cable)
            if case.ending.client is Client.RUNS_OUT:
                # The client says that it has gone as its own time is up; the server must find out without being told.
                with suppress(TimeoutError):
                    await asyncio.wait_for(visit.left.wait(), PATIENCE)
        return received

    def _start(self, channel: grpc.aio.Channel, case: Case, name: str, seconds: float) -> Any:
        style, ending = case
        method = "NoSuchMethod" if ending.request is Request.NO_SUCH_METHOD else style.name
        body = _BODY.get(ending.request, _GOOD)
        metadata = (*self._metadata, (VISIT, name))
        if ending.request is Request.MUCH_METADATA:
            metadata += (("x-much", "much" * 8192),)
        none = ending.request is Request.NONE
        kind = f"stream_{style.kind.partition('_')[2]}" if none else style.kind
        make = getattr(channel, kind)(f"/{self._service}/{method}")
        return make(
            iter(()) if none else body if style.requests == "unary" else iter([body]),
            timeout=seconds,
            metadata=metadata,
        )

    async def _talk(
        self, case: Case, call: Any, visit: Visit, channel: grpc.aio.Channel, cable: Cable | None
    ) -> Received:
        meddler = asyncio.create_task(_meddle(case.ending.client, call, visit, channel, cable), name="meddler")
        replies = 0
        with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            if case.style.replies == "unary":
                await call
                replies = 1
            else:
                async for _ in call:
                    replies += 1
                    if case.ending.client is Client.BREAKS:
                        break
        if case.ending.client is Client.BREAKS:
            await asyncio.wait_for(visit.waits.wait(), PATIENCE)
            call.cancel()  # without this grpc.aio lets the call go on until its deadline, even when nobody holds it
        status = await call.code()
        text = f"{await call.details()} {await call.trailing_metadata()} {await call.initial_metadata()}"
        meddler.cancel()
        with suppress(asyncio.CancelledError):
            await meddler
        return Received(status, text, replies)


async def _meddle(client: Client, call: Any, visit: Visit, channel: grpc.aio.Channel, cable: Cable | None) -> None:
    if client is Client.WAITS:
        return
    await visit.waits.wait()
    if client is Client.CANCELS:
        call.cancel()
    elif client is Client.CLOSES:
        await channel.close()
    elif client is Client.VANISHES and cable is not None:
        cable.cut()
    elif client is Client.RUNS_OUT and cable is not None:
        cable.hold()
