"""How many calls are worked on at once."""

from collections import defaultdict
from typing import Any, Final

from grpc_common.call import Call, Method, Run
from grpc_common.chain import Interceptor
from grpc_common.errors import RateLimitError
from grpc_common.interceptors.error import abort
from grpc_common.policy import INFRASTRUCTURE

BATCH_SHARE: Final = 0.8
RETRY_AFTER: Final = 1.0


class _Count:
    __slots__ = ("running",)

    def __init__(self) -> None:
        self.running = 0


class AtLimitError(RateLimitError):
    """There is no room for one call more; its handler has not begun."""


class ConcurrencyLimitInterceptor(Interceptor):
    """No more than `limit` handlers run at once, streams included; one call more is refused, not queued.

    A method's `max_concurrent` holds besides. Batch work gets at most four fifths of the limit, so that somebody who
    waits still finds room. Health checks and reflection neither count nor are refused: a probe that fails because of
    load has a busy server restarted.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"the limit is {limit} and must be at least 1")
        self.limit: Final = limit
        self.running = 0
        self._running_of: defaultdict[str, _Count] = defaultdict(_Count)

    def wrap(self, method: Method, call_next: Run) -> Run:
        """Count calls of `method` from before the handler begins until after it has ended, however it ends."""
        priority = method.policy.priority if method.policy is not None else "INTERACTIVE"
        if priority == "HEALTH" or method.service in INFRASTRUCTURE:
            return call_next
        room = max(1, int(self.limit * BATCH_SHARE)) if priority == "BATCH" else self.limit
        own_room = method.policy.max_concurrent if method.policy is not None else 0
        # Of the method, however often and in however many chains it is wrapped.
        own = self._running_of[method.path] if own_room else None

        async def run(call: Call, request: Any) -> Any:
            if self.running >= room:
                raise AtLimitError("the server is at its limit of concurrent calls", retry_after=RETRY_AFTER)
            if own is not None and own.running >= own_room:
                raise AtLimitError(f"{method.path} is at its limit of concurrent calls", retry_after=RETRY_AFTER)
            self.running += 1
            if own is not None:
                own.running += 1
            try:
                return await call_next(call, request)
            finally:
                self.running -= 1
                if own is not None:
                    own.running -= 1

        return run


class LastLimitInterceptor(ConcurrencyLimitInterceptor):
    """The same limit for a place right before the handlers, where nothing outside may know what its error means."""

    def wrap(self, method: Method, call_next: Run) -> Run:
        """Count calls of `method`, and tell the caller of one too many by itself."""
        limited = super().wrap(method, call_next)

        async def run(call: Call, request: Any) -> Any:
            try:
                return await limited(call, request)
            except AtLimitError as error:
                await abort(call, error)

        return run
