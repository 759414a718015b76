"""Prometheus metrics of every call."""

from collections.abc import Sequence
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry

from grpc_common.call import Call, Method, Run
from grpc_common.call_metrics import BUCKETS, CallMetrics
from grpc_common.chain import Interceptor
from grpc_common.outcome import outcome


class MetricsInterceptor(Interceptor):
    """A call is counted when it begins and when it ends, with its status, its time and its messages."""

    def __init__(self, registry: CollectorRegistry = REGISTRY, buckets: Sequence[float] = BUCKETS) -> None:
        self._metrics = CallMetrics.of(registry, buckets)

    def wrap(self, method: Method, call_next: Run) -> Run:
        """Count the calls of `method`."""
        metrics = self._metrics.method(method)

        async def run(call: Call, request: Any) -> Any:
            metrics.start(call)
            try:
                reply = await call_next(call, request)
            except BaseException as error:
                metrics.end(call, outcome(call, error))
                raise
            metrics.end(call, outcome(call, None))
            return reply

        return run
