"""What all calls of one method on one connection share."""

from typing import TYPE_CHECKING, Final

from grpc_common.access_line import HEALTH
from grpc_common.client.breaker import CircuitBreaker
from grpc_common.client.call_plan import CallPlan
from grpc_common.client.hedge_budget import HedgeBudget, Latencies
from grpc_common.client.latency import ROOM, Latency
from grpc_common.policy import is_declared
from grpc_common.sampling import Lot
from grpc_common.span_attributes import (
    GRPC,
    OTHER,
    RPC_METHOD,
    RPC_METHOD_ORIGINAL,
    RPC_SYSTEM,
    original,
    server,
    span_name,
)

if TYPE_CHECKING:
    from grpc_common.client.connection import Connection

FAIR_SHARE: Final = 0.2
"""Of the method's timeout, as long as no answer has told how long one takes."""


class ClientMethod:
    """A method with its plan, breaker and numbers."""

    __slots__ = (
        "attributes",
        "breaker",
        "connection",
        "hedges",
        "latencies",
        "latency",
        "lot",
        "metrics",
        "plan",
        "span_name",
        "traced",
    )

    def __init__(self, plan: CallPlan, connection: "Connection", breaker: CircuitBreaker) -> None:
        self.plan: Final = plan
        self.connection: Final = connection
        self.breaker: Final = breaker
        self.metrics: Final = connection.calling.metrics.method(plan)
        self.hedges: Final = HedgeBudget(connection.calling.retry.hedge_ratio)
        self.latencies: Final = Latencies()
        self.latency: Final = Latency()
        self.lot: Final = Lot.of(connection.calling.tracer)
        known = is_declared(plan.path)
        called = f"{plan.service}/{plan.name}" if known else OTHER
        self.span_name: Final = span_name(called)
        self.attributes: Final = {RPC_SYSTEM: GRPC, RPC_METHOD: called, **server(*connection.server)}
        if not known:
            self.attributes[RPC_METHOD_ORIGINAL] = original(plan.path)
        self.traced: Final = plan.service != HEALTH
        """Health checks are not: they come every second, for ever, and would hide all else."""

    def is_fair(self, given: float) -> bool:
        """Say whether a call that was given so many seconds speaks against the target when they were not enough.

        Else it proves only that its caller was in a hurry, and must not shut out those who are not.
        """
        seen = self.latency.seconds
        if seen is None:
            return given >= FAIR_SHARE * self.plan.timeout
        return given >= ROOM * seen or given >= 0.5 * self.plan.timeout

    def hedge_delay(self) -> float | None:
        """Return the seconds after which a call is slow, or None while that is not known."""
        fixed = self.connection.calling.retry.hedge_delay
        return self.latencies.slow if fixed is None else fixed
