"""One target's real channel, shared by all that were given it; another takes its place when certificates change."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from grpc import ChannelConnectivity, StatusCode, aio

from grpc_common.client.breaker import BreakerState, CircuitBreaker
from grpc_common.client.call_plan import plan_of
from grpc_common.client.calling import Calling
from grpc_common.client.method import ClientMethod
from grpc_common.client.misuse import ChannelClosedError, ForeignLoopError, ForkedChannelError
from grpc_common.client.remote_error import ConnectionFailedError, RemoteError, own_error
from grpc_common.client.retry_budget import RetryBudget

type Diagnose = Callable[[float], Awaitable[tuple[str, str, bool] | None]]
"""Given the seconds it may take: the name of the cause, a sentence, and whether trying again is no use."""

DRAINING: Final = 24 * 3600.0
"""Seconds that calls of a replaced channel may go on; longer than any policy's timeout."""
ASK_AGAIN: Final = 5.0
"""Seconds for which a diagnosis holds."""
DIAGNOSIS: Final = 1.5
"""The most seconds of a call that a diagnosis takes."""


class Connection:
    """A channel of grpc.aio, what its calls share, and who may use it: one event loop of one process."""

    def __init__(
        self,
        target: str,
        channel: aio.Channel,
        calling: Calling,
        diagnose: Diagnose | None = None,
        server: tuple[str, int | None] = ("", None),
    ) -> None:
        self.target: Final = target
        self.server: Final = server
        """What spans call it: a host and a port, or a Unix socket without one; "" where that is not known."""
        self.calling: Final = calling
        self.channel = channel
        self.version = 1
        """Counts the channels there have been; who holds on to one looks whether it is still the one."""
        self.budget: Final = RetryBudget(calling.retry.budget_tokens, calling.retry.budget_ratio)
        self.proven = False
        """Whether a server has answered on the present channel."""
        self.closed = False
        self.before_call: Callable[[], None] | None = None
        """Asked at each call; looks for new certificates now and then."""
        self.before_close: Callable[[], Awaitable[None]] | None = None
        self._diagnose = diagnose
        self._diagnosis: tuple[float, tuple[str, str, bool] | None] | None = None
        self._diagnosing: asyncio.Task[Any] | None = None
        self._methods: dict[str, ClientMethod] = {}
        self._draining: set[asyncio.Task[None]] = set()
        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._log = structlog.get_logger(component="client")

    def check(self) -> None:
        """Raise a ChannelMisuseError unless the channel can be used here."""
        if self._pid != os.getpid():
            raise ForkedChannelError(
                f"the channel to {self.target} was made before a fork, and gRPC does not survive one: make channels in "
                "the process that uses them"
            )
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is not self._loop:
            raise ForeignLoopError(
                f"the channel to {self.target} belongs to another event loop: make one in each loop that calls"
            )
        if self.closed:
            raise ChannelClosedError(f"the channel to {self.target} is closed: make another one")
        if self.before_call is not None:
            self.before_call()

    def method(self, path: str, *, request_streaming: bool, response_streaming: bool) -> ClientMethod:
        """Return what the calls of a method share; made once."""
        found = self._methods.get(path)
        if found is None:
            found = self._methods[path] = self._method(path, request_streaming, response_streaming)
        return found

    def _method(self, path: str, request_streaming: bool, response_streaming: bool) -> ClientMethod:
        calling = self.calling
        plan = plan_of(
            path,
            request_streaming=request_streaming,
            response_streaming=response_streaming,
            default_timeout=calling.default_timeout,
            retry=calling.retry,
        )

        def changed(before: BreakerState, after: BreakerState, why: str) -> None:
            tell = self._log.warning if after is BreakerState.OPEN else self._log.info
            tell(
                "circuit breaker",
                target=self.target,
                method=path,
                before=before.name,
                after=after.name,
                reason=why,
            )
            if after is BreakerState.OPEN:
                breaker.connection(ready=self.ready())

        breaker = CircuitBreaker(calling.breaker, calling.clock.now, changed)
        calling.metrics.watch(self.target, path, breaker)
        return ClientMethod(plan, self, breaker)

    def ready(self) -> bool:
        """Say whether there is a connection just now, and have one made where there is none."""
        return self.channel.get_state(try_to_connect=True) is ChannelConnectivity.READY

    async def explain(self, failure: RemoteError, seconds: float) -> tuple[RemoteError, bool]:
        """Return `failure` with its cause where no connection could be made, and whether trying again is no use."""
        if self.proven or self._diagnose is None or failure.status is not StatusCode.UNAVAILABLE or self.ready():
            return failure, False
        found = await self._diagnosed(min(seconds, DIAGNOSIS))
        if found is None:
            return failure, False
        cause, sentence, hopeless = found
        error = own_error(ConnectionFailedError, StatusCode.UNAVAILABLE, sentence, method=failure.method, reason=cause)
        error.cause, error.debug, error.attempts = cause, failure.debug, failure.attempts
        return error, hopeless

    async def _diagnosed(self, seconds: float) -> tuple[str, str, bool] | None:
        now = self.calling.clock.now()
        if self._diagnosis is not None and now < self._diagnosis[0]:
            return self._diagnosis[1]
        if self._diagnosing is None:
            self._diagnosing = asyncio.create_task(self._ask(), name="connection diagnosis")
        done, _ = await asyncio.wait({self._diagnosing}, timeout=seconds)
        return self._diagnosis[1] if done and self._diagnosis is not None else None

    async def _ask(self) -> None:
        try:
            assert self._diagnose is not None  # noqa: S101  # else nobody comes here
            found = await self._diagnose(DIAGNOSIS)
            self._diagnosis = (self.calling.clock.now() + ASK_AGAIN, found)
            if found is not None:
                self._log.warning("no connection", target=self.target, cause=found[0], problem=found[1])
        finally:
            self._diagnosing = None

    def replace(self, channel: aio.Channel) -> None:
        """Let all calls that begin from now on use `channel`; those that run end on the one they began on."""
        before, self.channel = self.channel, channel
        self.version += 1
        self.proven, self._diagnosis = False, None
        drain = asyncio.create_task(before.close(DRAINING), name="draining a replaced channel")
        self._draining.add(drain)
        drain.add_done_callback(self._draining.discard)

    @property
    def draining(self) -> int:
        """How many replaced channels still have calls."""
        return len(self._draining)

    async def close(self, grace: float | None = None) -> None:
        """Close all channels: calls that run get `grace` seconds, then they are cancelled."""
        if self.closed:
            return
        self.closed = True
        if self._diagnosing is not None:
            self._diagnosing.cancel()
        if self.before_close is not None:
            await self.before_close()
        draining = tuple(self._draining)
        await self.channel.close(grace)
        for task in draining:
            task.cancel()
        if draining:
            await asyncio.wait(draining)
