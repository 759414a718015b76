"""What is believed of one dependency after a row of answers."""

from collections.abc import Callable
from typing import Final

from grpc_common.health.check import DependencyCheck
from grpc_common.health.report import DependencyHealth, DependencyState

type Changed = Callable[[DependencyState, DependencyState, str, float], None]
"""Called with the state before, the state after, the reason and the time."""


class Dependency:
    """Up or down, with hysteresis; `now` is a monotonic clock's seconds and never goes back.

    The first answer decides. Then `failures_to_down` failures in a row take it down and `successes_to_up` successes
    in a row bring it up; and it is down as soon as the last answer is `stale_after` old, whoever looks, and whenever.
    """

    def __init__(self, check: DependencyCheck, now: float, changed: Changed) -> None:
        self.check: Final = check
        self.state = DependencyState.UNKNOWN
        self.reason = "no probe has been answered yet"
        self.failures = 0
        self._changed = changed
        self._since = now
        self._successes = 0
        self._last_answer = now
        self._last_ok: float | None = None
        self._latency: float | None = None

    @property
    def stale_at(self) -> float | None:
        """When the dependency goes down unless there is another answer; None when it is not up."""
        return self._last_answer + self.check.stale_after if self.state is DependencyState.UP else None

    def succeeded(self, now: float, latency: float) -> None:
        """Take a good answer that took `latency` seconds."""
        self.expire(now)
        self._last_answer = self._last_ok = now
        self._latency = latency
        self.failures = 0
        self._successes += 1
        enough = 1 if self.state is DependencyState.UNKNOWN else self.check.successes_to_up
        if self.state is DependencyState.UP:
            self.reason = ""
        elif self._successes >= enough:
            self._become(DependencyState.UP, "", now)

    def failed(self, now: float, reason: str, latency: float | None = None) -> None:
        """Take a bad answer, or none in time (`latency` is None then)."""
        self.expire(now)
        self._last_answer = now
        if latency is not None:
            self._latency = latency
        self._successes = 0
        self.failures += 1
        self.reason = reason
        enough = 1 if self.state is DependencyState.UNKNOWN else self.check.failures_to_down
        if self.state is not DependencyState.DOWN and self.failures >= enough:
            self._become(DependencyState.DOWN, reason, now)

    def expire(self, now: float) -> None:
        """Go down if the last answer is too old by `now`."""
        if (stale_at := self.stale_at) is not None and now >= stale_at:
            self._successes = 0
            self._become(DependencyState.DOWN, f"no answer for {self.check.stale_after:g} s", stale_at)

    def give_up(self, now: float, reason: str) -> None:
        """Go down because nobody probes any more."""
        if self.state is not DependencyState.DOWN:
            self._successes = 0
            self._become(DependencyState.DOWN, reason, now)

    def health(self, now: float) -> DependencyHealth:
        """Return what is known at `now`."""
        return DependencyHealth(
            name=self.check.name,
            critical=self.check.critical,
            state=self.state,
            since=self._since,
            last_ok_age=None if self._last_ok is None else now - self._last_ok,
            consecutive_failures=self.failures,
            reason=self.reason,
            latency_ms=None if self._latency is None else self._latency * 1000,
        )

    def _become(self, state: DependencyState, reason: str, now: float) -> None:
        before, self.state, self.reason, self._since = self.state, state, reason, now
        self._changed(before, state, reason, now)
