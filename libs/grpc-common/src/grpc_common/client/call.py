"""One call from its begin to its end, whatever its kind and however many attempts it takes."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import structlog
from grpc import StatusCode, aio
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status
from opentelemetry.trace import StatusCode as SpanStatus
from opentelemetry.util.types import AttributeValue

from grpc_common.client.breaker import INFRASTRUCTURE
from grpc_common.client.call_timeout import call_timeout
from grpc_common.client.metadata import checked
from grpc_common.client.method import ClientMethod
from grpc_common.client.next_attempt import next_pause, pushback
from grpc_common.client.remote_error import (
    CircuitOpenError,
    DeadlineSpentError,
    RemoteError,
    RemoteFailure,
    as_trailers,
    own_error,
    remote_error,
)
from grpc_common.correlation import KEY as CORRELATION
from grpc_common.correlation import correlation_id
from grpc_common.deadline import remaining
from grpc_common.span_attributes import (
    ATTEMPT,
    ATTEMPTS,
    DEADLINE_GIVEN,
    DEADLINE_LEFT,
    ERROR_REASON,
    ERROR_TYPE,
    HEDGES,
    PAUSE,
    RPC_STATUS,
)
from grpc_common.trace_context import inject

CIRCUIT_OPEN: Final = "CIRCUIT_OPEN"
DEADLINE_SPENT: Final = "DEADLINE_SPENT"
CHANNEL_CLOSED: Final = "CHANNEL_CLOSED"
TOKENLESS: Final = ("Getting metadata from plugin failed", "Illegal metadata")
"""What core says, with UNAVAILABLE, when call credentials raise an error or give metadata that cannot be sent."""
PREVIOUS_ATTEMPTS: Final = "grpc-previous-rpc-attempts"
"""How many attempts of the call there were before (gRFC A6); the first one has none, and core may remove it."""

_log = structlog.get_logger(component="client")


class ClientCall:
    """What the attempts of a call share. Made when the call begins, in the context of whoever makes it."""

    __slots__ = ("attempts", "compression", "credentials", "deadline", "ended", "error", "given",
                 "hedges", "inner", "metadata", "method", "problem", "repeatable", "span", "started",
                 "status", "ticket", "tokenless", "unsent", "wait_for_ready")  # fmt: skip

    def __init__(
        self,
        method: ClientMethod,
        timeout: float | None,
        metadata: Iterable[tuple[str, str | bytes]] | None,
        credentials: Any,
        wait_for_ready: bool | None,
        compression: Any,
    ) -> None:
        self.method = method
        # What can be wrong with the arguments comes first: from `_admit` on whatever is raised has to end the call.
        self.given = call_timeout(timeout, method.plan.timeout, remaining())
        """Seconds the call may take, attempts and pauses together."""
        own = checked(metadata)
        self.started = now = method.connection.calling.clock.now()
        self.deadline = now + self.given
        self.credentials = credentials
        self.wait_for_ready = wait_for_ready
        self.compression = compression
        self.attempts = self.hedges = 0
        self.repeatable = True
        """Whether another attempt could be given the same requests."""
        self.inner: Any = None
        """The call of grpc.aio whose answer counts, or might."""
        self.status: StatusCode | None = None
        self.error: RemoteError | None = None
        self.problem: BaseException | None = None
        """What our own side has raised; it ends the call, says nothing of the target, and its caller gets it."""
        self.tokenless = False
        """Whether the last attempt failed because our own credentials gave nothing to send."""
        self.unsent = False
        """Whether the target waits for a request that our own side has not given yet."""
        self.ended = False
        self.ticket = 0
        self.span = _start_span(method)
        pairs = inject(own, self.span)
        if (identity := correlation_id()) and not any(key == CORRELATION for key, _ in pairs):
            pairs = (*pairs, (CORRELATION, identity))
        self.metadata: tuple[tuple[str, str | bytes], ...] = pairs
        method.metrics.begin()
        self._admit()

    def _admit(self) -> None:
        method = self.method
        if self.given <= 0:
            error: RemoteError = own_error(
                DeadlineSpentError,
                StatusCode.DEADLINE_EXCEEDED,
                "no time was left for the call, and nothing was sent",
                method=method.plan.path,
                reason=DEADLINE_SPENT,
            )
            self.fail(error)
            return
        breaker = method.breaker
        self.ticket = breaker.admit()
        if not self.ticket:
            # The connection may be back sooner than the time is up; asking has core look for it.
            breaker.connection(ready=method.connection.ready())
            self.ticket = breaker.admit()
        if not self.ticket:
            method.metrics.refused += 1
            wait = breaker.retry_after
            error = own_error(
                CircuitOpenError,
                StatusCode.UNAVAILABLE,
                f"{method.connection.target} has failed too often of late, and nothing was sent; "
                f"it is tried again in {wait:.1f} s",
                method=method.plan.path,
                reason=CIRCUIT_OPEN,
                retry_after=wait,
            )
            self.fail(error)

    @property
    def left(self) -> float:
        """Seconds until the deadline; never below 0."""
        return max(0.0, self.deadline - self.method.connection.calling.clock.now())

    def begin_attempt(self) -> float:
        """Count an attempt and return its timeout."""
        self.attempts += 1
        metrics = self.method.metrics
        metrics.attempts += 1
        if self.attempts == 1:
            return self.given
        return self.left

    def attempt_metadata(self) -> Iterator[tuple[str, str | bytes]]:
        """Return the metadata of the attempt that has begun; grpc.aio would make a dictionary of a sequence."""
        if self.attempts == 1:
            return iter(self.metadata)
        return iter((*self.metadata, (PREVIOUS_ATTEMPTS, str(self.attempts - 1))))

    def failed(self, rpc: aio.AioRpcError) -> RemoteError:
        """Return the error of an attempt that has failed, and have the channel's budget know."""
        method = self.method
        trailers = as_trailers(rpc.trailing_metadata())
        error = remote_error(
            rpc.code(),
            rpc.details() or "",
            method=method.plan.path,
            headers=as_trailers(rpc.initial_metadata()),
            trailers=trailers,
            debug=rpc.debug_error_string() or "",
            attempts=self.attempts,
        )
        budget = method.connection.budget
        self.tokenless = error.details().startswith(TOKENLESS)
        if self.tokenless or (error.status is StatusCode.DEADLINE_EXCEEDED and not self._was_fair()):
            pass  # it says nothing of the target
        elif error.status in method.plan.codes or pushback(trailers) is not None:
            budget.failed()
        else:
            budget.answered()
        if error.status is not StatusCode.UNAVAILABLE and error.status is not StatusCode.DEADLINE_EXCEEDED:
            method.connection.proven = True
        return error

    def closed(self) -> RemoteError:
        """Return the error of a call that was cut because its channel was closed."""
        return own_error(
            RemoteFailure,
            StatusCode.CANCELLED,
            "the channel was closed while the call ran",
            method=self.method.plan.path,
            reason=CHANNEL_CLOSED,
        )

    async def again(self, failure: RemoteError) -> RemoteError | None:
        """Wait as long as it takes until the next attempt and return None, or return what the call fails with."""
        connection = self.method.connection
        hopeless = False
        if failure.status is StatusCode.UNAVAILABLE and not connection.proven:
            failure, hopeless = await connection.explain(failure, self.left)
        calling = connection.calling
        pause = None
        if self.repeatable and not hopeless:
            pause = next_pause(
                self.method.plan,
                failure,
                attempts=self.attempts,
                left=self.left,
                budget=connection.budget,
                random=calling.random,
            )
        if pause is None:
            return failure
        if self.span.is_recording():
            facts: dict[str, AttributeValue] = {
                ATTEMPT: self.attempts,
                RPC_STATUS: failure.status.name,
                PAUSE: pause,
            }
            self.span.add_event("attempt failed", facts)
        await calling.clock.sleep(pause)
        self.method.metrics.retries += 1
        return None

    def fail(self, error: RemoteError) -> None:
        """End the call with `error`; only its first end counts."""
        if not self.ended:
            self.error = error
            error.attempts = self.attempts
            self.end(error.status)

    def give_up(self, problem: BaseException) -> None:
        """End the call with what our own side has raised; only its first end counts."""
        if self.ended:
            return
        self.problem = problem
        if self.inner is not None:
            self.inner.cancel()
        self.settle(StatusCode.CANCELLED)
        self.end(StatusCode.INTERNAL if isinstance(problem, Exception) else StatusCode.CANCELLED)

    def answered(self) -> None:
        """Note that the server has begun to answer, which settles its breaker."""
        method = self.method
        method.connection.proven = True
        method.latency.record(method.connection.calling.clock.now() - self.started)
        self.settle(StatusCode.OK)

    def settle(self, status: StatusCode) -> None:
        """Hand the breaker's ticket back, once, for a call that ends so."""
        ticket, self.ticket = self.ticket, 0
        if not ticket:
            return
        breaker = self.method.breaker
        if (
            self.tokenless
            or status is StatusCode.CANCELLED
            or (status is StatusCode.DEADLINE_EXCEEDED and not self._was_fair())
        ):
            breaker.neither(ticket)
        elif status in INFRASTRUCTURE:
            breaker.failure(ticket)
        else:
            breaker.success(ticket)

    def _was_fair(self) -> bool:
        """Say whether the target could have answered in the time it was given."""
        return not self.unsent and self.method.is_fair(self.given)

    def end(self, status: StatusCode) -> None:
        """End the call; only its first end counts."""
        if self.ended:
            return
        self.ended = True
        self.status = status
        method = self.method
        now = method.connection.calling.clock.now()
        method.metrics.end(status, now - self.started)
        if status is StatusCode.OK:
            connection = method.connection
            connection.proven = True
            connection.budget.answered()
            if self.ticket:
                method.latency.record(now - self.started)
        self.settle(status)
        span = self.span
        if span.is_recording():
            self._describe(span, status, now)
        span.end()
        if status in INFRASTRUCTURE and self.attempts:
            self._log_failure(now)

    def _describe(self, span: Span, status: StatusCode, now: float) -> None:
        span.set_attributes(
            {
                RPC_STATUS: status.name,
                ATTEMPTS: self.attempts,
                HEDGES: self.hedges,
                DEADLINE_GIVEN: self.given,
                DEADLINE_LEFT: max(0.0, self.deadline - now),
            }
        )
        if status is not StatusCode.OK:
            span.set_attribute(ERROR_TYPE, status.name)
            if self.error is not None:
                span.set_attribute(ERROR_REASON, self.error.reason)
            span.set_status(Status(SpanStatus.ERROR))

    def _log_failure(self, now: float) -> None:
        error = self.error
        _log.warning(
            "call of another service failed",
            target=self.method.connection.target,
            method=self.method.plan.path,
            status=self.status.name if self.status is not None else "",
            reason=error.reason if error is not None else "",
            problem=error.message if error is not None else "",
            attempts=self.attempts,
            given=round(self.given, 3),
            left=round(max(0.0, self.deadline - now), 3),
        )


def _start_span(method: ClientMethod) -> Span:
    if not method.traced:
        return trace.NonRecordingSpan(trace.get_current_span().get_span_context())
    if (lot := method.lot) is not None:
        # What is not kept is decided here, as the sampler would: it would take longer for that than all the rest.
        context = trace.get_current_span().get_span_context()
        if not context.trace_id:
            if (unkept := lot.draw()) is not None:
                return unkept
        elif not context.trace_flags & 1:
            return trace.NonRecordingSpan(context)
    return method.connection.calling.tracer.start_span(
        method.span_name, kind=SpanKind.CLIENT, attributes=method.attributes
    )
