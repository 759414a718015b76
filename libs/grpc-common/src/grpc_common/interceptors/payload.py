"""The messages of calls in the log, for those who look for a fault."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import structlog
from grpc.aio import EOF

from grpc_common.call import Call, Method, Run
from grpc_common.chain import Interceptor
from grpc_common.message_view import MessageView


class PayloadInterceptor(Interceptor):
    """The messages of a call are logged, without secrets and cut to `max_size` characters; off unless added."""

    sees_messages: ClassVar[bool] = True

    def __init__(self, max_size: int = 2048) -> None:
        self._max_size = max_size
        self._log = structlog.get_logger(component="payload")

    def wrap(self, method: Method, call_next: Run) -> Run:
        """Log the messages of both directions as they pass."""

        async def run(call: Call, request: Any) -> Any:
            if method.request_streaming or method.response_streaming:
                call.context = _LoggedContext(self, method, call.context)
            if method.request_streaming:
                request = self._each(method, request)
            else:
                self.write(method, "received", request)
            reply = await call_next(call, request)
            if not method.response_streaming and reply is not None:
                self.write(method, "sent", reply)
            return reply

        return run

    def write(self, method: Method, direction: str, message: Any) -> None:
        """Log one message."""
        self._log.info(
            "payload", method=method.path, direction=direction, message=MessageView(self._max_size).of(message)
        )

    async def _each(self, method: Method, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for message in requests:
            self.write(method, "received", message)
            yield message


class _LoggedContext:
    __slots__ = ("_context", "_log", "_method")

    def __init__(self, log: PayloadInterceptor, method: Method, context: Any) -> None:
        self._log = log
        self._method = method
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        message = await self._context.read()
        if message is not EOF:
            self._log.write(self._method, "received", message)
        return message

    async def write(self, message: Any) -> None:
        await self._context.write(message)
        self._log.write(self._method, "sent", message)
