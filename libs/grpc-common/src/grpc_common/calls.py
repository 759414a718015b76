"""The calls that one server works on."""

from contextvars import ContextVar
from time import perf_counter
from typing import Final

from grpc_common.call import Call
from grpc_common.errors import ExternalServiceError


class Calls:
    """Those that have come to a chain of the server and have not left it."""

    def __init__(self) -> None:
        self.running: Final[set[Call]] = set()

    def refuse_waiting(self, seconds: float) -> None:
        """Refuse those whose one request has not come for so long: a server that stops does not wait for it."""
        latest = perf_counter() - seconds
        for call in tuple(self.running):
            if call.waits is not None and call.refusal is None and call.started <= latest:
                call.refusal = ExternalServiceError("the server stops, and the request has not come")
                call.waits.cancel()


current_calls: Final[ContextVar[Calls | None]] = ContextVar("current_calls", default=None)
"""Of the server that this task works for; None where that is a plain `grpc.aio.server`."""
