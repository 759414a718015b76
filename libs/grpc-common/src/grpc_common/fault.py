"""Calls that go wrong on purpose, to see what becomes of whoever makes them."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar, Final

from grpc import StatusCode

from grpc_common.call import Call, Method, Run
from grpc_common.chain import Interceptor

DETAILS: Final = "a fault put in on purpose"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong, and with how many of which calls."""

    latency: float = 0.0
    """Seconds a call waits before anything else is done with it."""
    status: StatusCode | None = None
    """How it ends, without its handler; with `cut_after` how it is cut, then UNAVAILABLE when not given."""
    cut_after: int | None = None
    """How many replies are sent before the next one is cut off, where replies are streamed."""
    probability: float = 1.0
    """0 to 1, drawn for each call and each fault on its own."""
    methods: frozenset[str] = frozenset()
    """Paths, "/package.Service/Method"; without any it is all methods."""

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"a probability is 0 to 1, not {self.probability}")
        if self.latency < 0 or (self.cut_after or 0) < 0:
            raise ValueError("neither latency nor cut_after can be negative")
        if self.status is StatusCode.OK:
            raise ValueError("OK is no fault")

    def concerns(self, method: Method) -> bool:
        """Say whether it can befall calls of `method`."""
        cuts_nothing = self.cut_after is not None and not method.response_streaming
        return (not self.methods or method.path in self.methods) and not (cuts_nothing and not self.latency)


class FaultInterceptor(Interceptor):
    """A call suffers the faults it is drawn for; the same `random` state draws the same calls again."""

    sees_messages: ClassVar[bool] = True

    def __init__(self, faults: Iterable[Fault], random: Random | None = None) -> None:
        self._faults = tuple(faults)
        self._random = random or Random(0)  # noqa: S311  # to be repeated, not to be secret

    def wrap(self, method: Method, call_next: Run) -> Run:
        """Draw for each call, where any fault concerns the method."""
        faults = [fault for fault in self._faults if fault.concerns(method)]
        if not faults:
            return call_next

        async def run(call: Call, request: Any) -> Any:
            drawn = [fault for fault in faults if self._random.random() < fault.probability]
            for fault in drawn:
                await asyncio.sleep(fault.latency)
                if fault.cut_after is not None:
                    call.context = _Cut(call.context, fault.cut_after, fault.status or StatusCode.UNAVAILABLE)
                elif fault.status is not None:
                    await call.context.abort(fault.status, DETAILS)
            return await call_next(call, request)

        return run


class _Cut:
    __slots__ = ("_context", "_left", "_status")

    def __init__(self, context: Any, left: int, status: StatusCode) -> None:
        self._context = context
        self._left = left
        self._status = status

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: Any) -> None:
        if self._left == 0:
            await self._context.abort(self._status, DETAILS)
        self._left -= 1
        await self._context.write(message)
