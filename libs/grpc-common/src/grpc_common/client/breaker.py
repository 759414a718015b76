"""A circuit breaker: calls that would fail anyway fail at once, and the service gets a rest."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final

from grpc import StatusCode

INFRASTRUCTURE: Final = frozenset({StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED})
"""The endings that speak against a target: nobody answered, or not in time.

INTERNAL and UNKNOWN are answers of a living server about one request: were they counted, one caller with a request
that crashes the handler would shut everybody else out. RESOURCE_EXHAUSTED speaks of the caller's own rate.
"""
SLICES: Final = 10
"""Parts the window is divided into; one goes as the next comes."""


class BreakerState(Enum):
    """Whether calls get through; the value is the metric's."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True, slots=True)
class CircuitBreakerConfig:
    """When a breaker opens, and when it tries again."""

    failure_threshold: int = 5
    """Failures in a row that open it."""
    recovery_timeout: float = 30.0
    """Seconds it stays open before a call may try again."""
    failure_ratio: float = 0.5
    """The share of failures within the window that opens it, too."""
    window: float = 10.0
    """Seconds."""
    minimum_calls: int = 20
    """Fewer calls within the window than this say nothing about a share."""
    half_open_max_calls: int = 1
    """Calls that may try at a time; as many must succeed to close it. One more may when the latest of them has proved
    nothing for `recovery_timeout`: it may be a quiet stream, which would keep all others out until its deadline.
    """

    def __post_init__(self) -> None:
        if self.failure_threshold < 1 or self.minimum_calls < 1 or self.half_open_max_calls < 1:
            raise ValueError("failure_threshold, minimum_calls and half_open_max_calls are 1 or more")
        if not (0 < self.recovery_timeout < inf and 0 < self.window < inf and 0 < self.failure_ratio <= 1):
            raise ValueError("recovery_timeout and window are above 0 and end, failure_ratio is above 0 and at most 1")


type Changed = Callable[[BreakerState, BreakerState, str], None]
"""Told the state before, the state after and the reason."""


class CircuitBreaker:
    """CLOSED → OPEN → HALF_OPEN → CLOSED or OPEN again, for whole calls of one method to one target.

    A call that `admit` let in gets a ticket and hands it back through `success`, `failure` or `neither`, whichever
    comes first. Only tickets of the present state count: a call from before the breaker opened proves nothing after.
    """

    __slots__ = ("__weakref__", "_bad", "_changed", "_config", "_good", "_in_a_row", "_lost", "_now",
                 "_opened", "_probes", "_proofs", "_slice", "_slice_until", "_ticket", "_tried", "state")  # fmt: skip

    def __init__(self, config: CircuitBreakerConfig, now: Callable[[], float], changed: Changed | None = None) -> None:
        self._config: Final = config
        self._now: Final = now
        self._changed = changed
        self.state = BreakerState.CLOSED
        self._ticket = 1
        self._opened = self._tried = 0.0
        self._lost = False
        self._probes = self._proofs = 0
        self._reset()

    def _reset(self) -> None:
        self._in_a_row = 0
        self._good = [0] * SLICES
        self._bad = [0] * SLICES
        self._slice = 0
        self._slice_until = self._now() + self._config.window / SLICES

    def admit(self) -> int:
        """Return a ticket, or 0 when the call must fail at once."""
        state = self.state
        if state is BreakerState.CLOSED:
            return self._ticket
        if state is BreakerState.OPEN:
            if self._now() - self._opened < self._config.recovery_timeout:
                return 0
            self._become(BreakerState.HALF_OPEN, "it is time to try again")
        if (
            self._probes >= self._config.half_open_max_calls
            and self._now() - self._tried < self._config.recovery_timeout
        ):
            return 0
        self._probes += 1
        self._tried = self._now()
        return self._ticket

    @property
    def retry_after(self) -> float:
        """Seconds until it is worth asking again; never below 0."""
        if self.state is not BreakerState.OPEN:
            return 0.0
        return max(0.0, self._opened + self._config.recovery_timeout - self._now())

    def success(self, ticket: int) -> None:
        """Note that the call got an answer, whatever that was."""
        if ticket != self._ticket:
            return
        if self.state is BreakerState.CLOSED:
            self._in_a_row = 0
            if self._now() >= self._slice_until:
                self._turn()
            self._good[self._slice] += 1
            return
        self._probes -= 1
        self._proofs += 1
        if self._proofs >= self._config.half_open_max_calls:
            self._become(BreakerState.CLOSED, "the target answers again")

    def failure(self, ticket: int) -> None:
        """Note that the call ended with one of INFRASTRUCTURE."""
        if ticket != self._ticket:
            return
        if self.state is not BreakerState.CLOSED:
            self._become(BreakerState.OPEN, "the target still does not answer")
            return
        self._in_a_row += 1
        if self._now() >= self._slice_until:
            self._turn()
        self._bad[self._slice] += 1
        if self._in_a_row >= self._config.failure_threshold:
            self._become(BreakerState.OPEN, f"{self._in_a_row} calls in a row failed")
            return
        bad = sum(self._bad)
        calls = bad + sum(self._good)
        if calls >= self._config.minimum_calls and bad >= calls * self._config.failure_ratio:
            self._become(BreakerState.OPEN, f"{bad} of {calls} calls failed within {self._config.window:g} s")

    def neither(self, ticket: int) -> None:
        """Note that the call was given up before it proved anything: another may try in its place."""
        if ticket == self._ticket and self.state is BreakerState.HALF_OPEN:
            self._probes -= 1

    def connection(self, *, ready: bool) -> None:
        """Tell an open breaker how the connection is: lost and found again, it is worth a try before the time is up."""
        if self.state is not BreakerState.OPEN:
            return
        if not ready:
            self._lost = True
        elif self._lost:
            self._become(BreakerState.HALF_OPEN, "the connection is back")

    def _turn(self) -> None:
        width = self._config.window / SLICES
        passed = int((self._now() - self._slice_until) / width) + 1
        for _ in range(min(passed, SLICES)):
            self._slice = (self._slice + 1) % SLICES
            self._good[self._slice] = self._bad[self._slice] = 0
        self._slice_until += passed * width

    def _become(self, state: BreakerState, why: str) -> None:
        before, self.state = self.state, state
        self._ticket += 1
        self._probes = self._proofs = 0
        self._lost = False
        if state is BreakerState.OPEN:
            self._opened = self._now()
        elif state is BreakerState.CLOSED:
            self._reset()
        if self._changed is not None:
            self._changed(before, state, why)
