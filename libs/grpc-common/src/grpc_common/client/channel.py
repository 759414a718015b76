"""What stubs are built on: a channel like grpc.aio's, whose calls have all that the policy says."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import grpc
from grpc import aio

from grpc_common.client.connection import Connection
from grpc_common.client.misuse import ChannelClosedError
from grpc_common.client.multicallable import StreamStream, StreamUnary, UnaryStream, UnaryUnary

type Serialize = Callable[[Any], bytes]
type Parse = Callable[[bytes], Any]


class ClientChannel(aio.Channel):
    """One holder's share of a connection; the connection closes with the last of them."""

    def __init__(self, connection: Connection, release: Callable[[float | None], Awaitable[None]]) -> None:
        self.connection = connection
        self._release = release
        self._closed = False

    def check(self) -> None:
        """Raise a ChannelMisuseError unless calls can be made here and now."""
        if self._closed:
            raise ChannelClosedError(f"the channel to {self.target} is closed: make another one")
        self.connection.check()

    @property
    def target(self) -> str:
        """Where calls go."""
        return self.connection.target

    def unary_unary(
        self,
        method: str,
        request_serializer: Serialize | None = None,
        response_deserializer: Parse | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return the method at that path: one request, one reply."""
        return UnaryUnary(self, "unary_unary", method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Serialize | None = None,
        response_deserializer: Parse | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return the method at that path: one request, a stream of replies."""
        return UnaryStream(self, "unary_stream", method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Serialize | None = None,
        response_deserializer: Parse | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return the method at that path: a stream of requests, one reply."""
        return StreamUnary(self, "stream_unary", method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Serialize | None = None,
        response_deserializer: Parse | None = None,
        _registered_method: bool | None = False,
    ) -> Any:
        """Return the method at that path: a stream of requests, a stream of replies."""
        return StreamStream(self, "stream_stream", method, request_serializer, response_deserializer)

    async def close(self, grace: float | None = None) -> None:
        """Give this share up. With the last one calls that run get `grace` seconds, then they are cancelled."""
        if not self._closed:
            self._closed = True
            await self._release(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return how the connection is, and have it made when it is not there."""
        return self.connection.channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return when the state is another one."""
        await self.connection.channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Return when there is a connection; put a timeout around it."""
        await self.connection.channel.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
