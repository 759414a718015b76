"""How often a principal may call."""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from grpc_common.call import Call, Method, Run
from grpc_common.chain import Interceptor
from grpc_common.client_address import address_of, network_of
from grpc_common.errors import RateLimitError
from grpc_common.policy import Rate

MAX_BUCKETS: Final = 10_000
EPSILON: Final = 1e-6  # who waits as long as told must not be a rounding error short of a token


class RateLimitInterceptor(Interceptor):
    """A principal calls a method no more often than its policy's `rate`; more is refused and told when to come back.

    Each server counts for itself. Callers without a principal are told apart by their address, which `behind_mesh` a
    sidecar on a loopback address tells. The buckets of those who called longest ago are forgotten first, as full: at
    most MAX_BUCKETS are kept for a method.
    """

    def __init__(self, clock: Callable[[], float] = monotonic, *, behind_mesh: bool = False) -> None:
        self._clock = clock
        self._behind_mesh = behind_mesh
        self._buckets: dict[str, Buckets] = {}

    def wrap(self, method: Method, call_next: Run) -> Run:
        """Do nothing at all for a method without a rate."""
        rate = method.policy.rate if method.policy is not None else None
        if rate is None:
            return call_next
        # Of the method, however often and in however many chains it is wrapped.
        buckets = self._buckets.setdefault(method.path, Buckets(rate, self._clock))

        async def run(call: Call, request: Any) -> Any:
            wait = buckets.take(caller(call, behind_mesh=self._behind_mesh))
            if wait > 0:
                raise RateLimitError(f"too many calls of {method.path}", retry_after=wait)
            return await call_next(call, request)

        return run


class Buckets:
    """A token bucket for each name, in memory bounded by MAX_BUCKETS."""

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        self._per_second = rate.per_second
        self._burst = float(rate.burst)
        self._clock = clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """(tokens, when) of each bucket; one that is not here is full."""

    def take(self, name: str) -> float:
        """Take one token and return 0, or take none and return the seconds until there is one."""
        now = self._clock()
        tokens, when = self._levels.get(name, (self._burst, now))
        tokens = min(self._burst, tokens + (now - when) * self._per_second)
        if tokens < 1 - EPSILON:
            return (1 - tokens) / self._per_second
        self._levels[name] = (tokens - 1, now)
        self._levels.move_to_end(name)
        if len(self._levels) > MAX_BUCKETS:
            self._levels.popitem(last=False)
        return 0.0

    def give(self, name: str) -> None:
        """Put a token back that was taken."""
        if (level := self._levels.get(name)) is not None:
            tokens, when = level
            self._levels[name] = tokens + 1, when  # no more than the burst once it is looked at


def caller(call: Call, *, behind_mesh: bool = False) -> str:
    """Return the subject of the principal, or the network of who has none."""
    if call.principal is not None:
        return f"{call.principal.issuer} {call.principal.subject}"
    return network_of(address_of(str(call.core.peer()), call.metadata, behind_mesh=behind_mesh))
