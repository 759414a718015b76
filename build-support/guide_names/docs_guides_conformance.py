"""The interceptor under test is the reader's own."""

import collections.abc
from typing import Any

import grpc
from grpc import StatusCode, aio


class MyInterceptor(aio.ServerInterceptor):
    """Tells of each call how it ended."""

    def __init__(self, on_end: collections.abc.Callable[[str, StatusCode], None]) -> None:
        """Tell `on_end` the path and the status."""

    async def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Wrap the handler."""
        return await continuation(handler_call_details)
