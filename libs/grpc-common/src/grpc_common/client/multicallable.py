"""The methods of a stub: built once, called often."""

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import Message

from grpc_common.client.call import ClientCall
from grpc_common.client.method import ClientMethod
from grpc_common.client.reply_stream import Opening, ReplyStream
from grpc_common.client.requests import Requests, Source
from grpc_common.client.unary_reply import Unary, UnaryReplyCall, WrittenCall

if TYPE_CHECKING:
    from grpc_common.client.channel import ClientChannel

type MetadataLike = Iterable[tuple[str, str | bytes]]


class Multicallable:
    """A method of one kind, with its codec; the bytes themselves go through grpc.aio."""

    def __init__(
        self,
        channel: "ClientChannel",
        kind: str,
        path: str,
        serialize: Callable[[Any], bytes] | None,
        parse: Callable[[bytes], Any] | None,
    ) -> None:
        self._channel = channel  # held, or the connection would close under a stub in use
        self._connection = connection = channel.connection
        self._kind = kind
        self._path = path
        self._serialize = serialize
        self._parse = parse
        requests, _, replies = kind.partition("_")
        self._method: ClientMethod = connection.method(
            path, request_streaming=requests == "stream", response_streaming=replies == "stream"
        )
        self._request_id = self._method.plan.request_id
        self._fits: type[Any] | None = None
        """The class of the requests so far, which is known to be the right one."""
        self._version = 0
        self._inner: Any = None

    def _begin(
        self,
        timeout: float | None,
        metadata: MetadataLike | None,
        credentials: grpc.CallCredentials | None,
        wait_for_ready: bool | None,
        compression: grpc.Compression | None,
    ) -> ClientCall:
        self._channel.check()
        if credentials is not None and not isinstance(credentials, grpc.CallCredentials):
            raise TypeError(f"credentials of a call are grpc.CallCredentials, not a {type(credentials).__name__}")
        if compression is not None and not isinstance(compression, grpc.Compression):
            raise TypeError(f"compression is a grpc.Compression, not a {type(compression).__name__}")
        if wait_for_ready is not None and not isinstance(wait_for_ready, bool):
            raise TypeError(f"wait_for_ready is a bool, not a {type(wait_for_ready).__name__}")
        return ClientCall(self._method, timeout, metadata, credentials, wait_for_ready, compression)

    def _transport(self) -> Any:
        """Return the method on the channel there is now."""
        connection = self._connection
        if self._version != connection.version:
            self._inner = getattr(connection.channel, self._kind)(self._path)
            self._version = connection.version
        return self._inner

    def encode(self, request: Any) -> bytes:
        """Return the bytes of a request; raise TypeError when it is not what the method takes.

        Nothing else stands between a wrong message and the wire: protobuf serialises any message by any class.
        """
        kind = type(request)
        if kind is not self._fits:
            self.check_class(kind)
            self._fits = kind
        raw = request if self._serialize is None else self._serialize(request)
        if type(raw) is not bytes:
            raise TypeError(f"{self._path} sends bytes, and its serialiser gives a {type(raw).__name__}")
        return raw if self._request_id is None else self._request_id.fill(request, raw)

    def check_class(self, kind: type[Any]) -> None:
        """Raise TypeError for what protobuf's serialiser is not to be given: another message than the method takes."""
        if getattr(self._serialize, "__name__", "") != "SerializeToString":
            return
        expected, message = self._method.plan.request_type, issubclass(kind, Message)
        given = kind.DESCRIPTOR.full_name if message else kind.__name__
        if given != expected and (expected or not message):
            raise TypeError(f"{self._path} takes {expected or 'a message'}, not {given}")

    def _send_empty(self, call: ClientCall, timeout: float) -> Any:
        """Begin an attempt whose requests follow."""
        return self._transport()(
            timeout=timeout,
            metadata=call.attempt_metadata(),
            credentials=call.credentials,
            wait_for_ready=call.wait_for_ready,
            compression=call.compression,
        )

    def _sender(self, request: Any) -> Callable[[ClientCall, float], Any]:
        """Return what begins an attempt with its one request. Raises what `encode` raises."""
        raw = self.encode(request)

        def send(call: ClientCall, timeout: float) -> Any:
            call.method.metrics.sent += 1
            return self._transport()(
                raw,
                timeout=timeout,
                metadata=call.attempt_metadata(),
                credentials=call.credentials,
                wait_for_ready=call.wait_for_ready,
                compression=call.compression,
            )

        return send


class UnaryUnary(Multicallable):
    """One request, one reply."""

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: MetadataLike | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> UnaryReplyCall:
        """Make a call; it is under way when this returns."""
        send = self._sender(request)
        call = self._begin(timeout, metadata, credentials, wait_for_ready, compression)
        try:
            return UnaryReplyCall(Unary(call, send, self._parse), asyncio.get_running_loop())
        except BaseException as problem:
            call.give_up(problem)
            raise


class UnaryStream(Multicallable):
    """One request, a stream of replies."""

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: MetadataLike | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> ReplyStream:
        """Make a call; it is under way when this returns."""
        send = self._sender(request)
        call = self._begin(timeout, metadata, credentials, wait_for_ready, compression)
        try:
            return ReplyStream(Opening(call, send, self._parse, None), asyncio.get_running_loop())
        except BaseException as problem:
            call.give_up(problem)
            raise


class StreamUnary(Multicallable):
    """A stream of requests, one reply."""

    def __call__(
        self,
        request_iterator: Source | None = None,
        timeout: float | None = None,
        metadata: MetadataLike | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> UnaryReplyCall:
        """Make a call; it is under way when this returns."""
        call = self._begin(timeout, metadata, credentials, wait_for_ready, compression)
        try:
            requests = Requests(call, request_iterator, self)
            kind = WrittenCall if request_iterator is None else UnaryReplyCall
            return kind(Unary(call, self._send_empty, self._parse, requests), asyncio.get_running_loop())
        except BaseException as problem:
            call.give_up(problem)
            raise


class StreamStream(Multicallable):
    """A stream of requests, a stream of replies."""

    def __call__(
        self,
        request_iterator: Source | None = None,
        timeout: float | None = None,
        metadata: MetadataLike | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> ReplyStream:
        """Make a call; it is under way when this returns."""
        call = self._begin(timeout, metadata, credentials, wait_for_ready, compression)
        try:
            requests = Requests(call, request_iterator, self)
            opening = Opening(call, self._send_empty, self._parse, requests)
            return ReplyStream(opening, asyncio.get_running_loop())
        except BaseException as problem:
            call.give_up(problem)
            raise
