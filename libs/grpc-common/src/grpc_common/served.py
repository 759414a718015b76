"""One handler, as the codec and the innermost step of a chain use it."""

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import Message

from grpc_common.call import Handler, Method
from grpc_common.errors import ValidationError

type Behavior = Callable[[Any, Any], Any]
"""The servicer's own function: of the request or the requests, and the context."""


class UnserializableReplyError(Exception):
    """The handler's reply is not the message its method promises: a fault of the service."""


class Served:
    """What a call needs of the handler it came to; all else of a chain belongs to the method."""

    __slots__ = ("_deserializer", "_method", "_right", "_serializer", "behavior", "takes_stream")

    def __init__(self, method: Method, handler: Handler) -> None:
        self._method: Final = method
        self._deserializer: Final = handler.request_deserializer
        self._serializer: Final = handler.response_serializer
        self._right: type[Any] | None = None
        self.behavior: Final = _behavior(handler)
        self.takes_stream: Final = bool(handler.request_streaming)
        """Whether it reads its requests by itself, be it only one."""

    def parse(self, data: bytes) -> Any:
        """Return the request. Raise ValidationError where it is none."""
        if self._deserializer is None:
            return data
        try:
            return self._deserializer(data)
        except Exception as error:
            raise ValidationError("the request does not parse as the message this method takes") from error

    def serialize(self, reply: Any) -> bytes:
        """Return the bytes of a reply. Raise UnserializableReplyError where it is none."""
        serializer = self._serializer
        if serializer is None:
            return reply  # type: ignore[no-any-return]  # bytes already
        if type(reply) is not self._right:
            self._check(reply)
        try:
            data: bytes = serializer(reply)
        except Exception as error:
            raise UnserializableReplyError(self._wrong(reply)) from error
        return data

    def _check(self, reply: Any) -> None:
        # protobuf's own serialises a message of any class, whichever it is taken from.
        if isinstance(reply, Message) and getattr(self._serializer, "__name__", "") == "SerializeToString":
            if self._method.reply not in ("", reply.DESCRIPTOR.full_name):
                raise UnserializableReplyError(self._wrong(reply))
            self._right = type(reply)

    def _wrong(self, reply: Any) -> str:
        found = reply.DESCRIPTOR.full_name if isinstance(reply, Message) else type(reply).__name__
        if self._method.reply:
            return f"{self._method.path} replied with {found}; its proto says {self._method.reply}"
        return f"{self._method.path} replied with {found}, which does not serialise as its response"


def _behavior(handler: Handler) -> Behavior:
    name = f"{_PART[bool(handler.request_streaming)]}_{_PART[bool(handler.response_streaming)]}"
    behavior: Behavior = getattr(handler, name)
    return behavior


_PART: Final = {False: "unary", True: "stream"}
