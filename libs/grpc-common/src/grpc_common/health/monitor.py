"""Probing the dependencies in the background: nobody who asks for our health can hammer them or must wait for them."""

import asyncio
import random
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final, Self

import structlog

from grpc_common.health.check import LONGEST_INTERVAL, DependencyCheck
from grpc_common.health.dependency import Dependency
from grpc_common.health.reason import reason_of
from grpc_common.health.report import DependencyState, Health, HealthReport, StateChange

type Clock = Callable[[], float]
"""Monotonic seconds."""

FIRST_RETRY: Final = 0.25
STOP_SECONDS: Final = 1.0


class HealthMonitor:
    """One task that starts every probe when it is due, and takes its answer, its failure or its silence.

    A dependency has one probe in flight at most, also when the probe outlives its timeout and refuses to be cancelled:
    then each further interval without an answer is a failure. Nothing a probe raises ends the task. A KeyboardInterrupt
    alone passes, to the event loop.
    """

    def __init__(
        self,
        checks: Sequence[DependencyCheck],
        *,
        clock: Clock = monotonic,
        jitter: Callable[[], float] = random.random,
        on_health: Callable[[Health], None] | None = None,
        on_change: Callable[[StateChange], None] | None = None,
    ) -> None:
        """`on_health` hears of the process, `on_change` of each dependency; `jitter` gives numbers from 0 to 1."""
        self._clock = clock
        self._jitter = jitter
        self._on_health = on_health
        self._on_change = on_change
        self._log = structlog.get_logger(component="health")
        self._task: asyncio.Task[None] | None = None
        self._changes: list[StateChange] = []
        now = clock()
        self._probings = tuple(_Probing(self._dependency(check, now), clock, self._pause) for check in checks)
        self._dependencies = tuple(probing.dependency for probing in self._probings)
        self._health = self._verdict()
        self._stale_at = float("inf")

    @property
    def health(self) -> Health:
        """The health of the process at this moment."""
        self.refresh()
        return self._health

    def refresh(self) -> None:
        """Notice an answer that has become too old, also when the task that probes hangs."""
        if self._clock() >= self._stale_at:
            self._settle()

    def report(self) -> HealthReport:
        """Return everything that is known at this moment."""
        health = self.health
        now = self._clock()
        return HealthReport(health, now, tuple(dependency.health(now) for dependency in self._dependencies))

    async def start(self) -> None:
        """Begin to probe, all dependencies at once; does not wait for their answers."""
        if self._task is None and self._probings:
            self._task = asyncio.create_task(self._run(), name="health monitor")
            self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Stop probing and cancel the probes in flight; one that refuses is left behind after a second."""
        task, self._task = self._task, None
        running: list[asyncio.Task[Any]] = [task] if task is not None else []
        for probing in self._probings:
            if probing.task is not None:
                running.append(probing.task)
                probing.task = None
        for each in running:
            each.cancel()
        if not running:
            return
        _, deaf = await asyncio.wait(running, timeout=STOP_SECONDS)
        for each in deaf:
            self._log.warning("health probe ignores cancellation", probe=each.get_name())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    async def _run(self) -> None:
        while True:
            now = self._clock()
            for probing in self._probings:
                probing.step(now)
            self._settle()
            wake = min(self._stale_at, *(probing.due for probing in self._probings))
            delay = max(0.0, wake - self._clock())
            running = [probing.task for probing in self._probings if probing.task is not None]
            if running:
                await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(delay)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._log.error("health monitor failed", exc_info=error)
        for dependency in self._dependencies:
            dependency.give_up(self._clock(), "the health monitor has failed")
        self._settle()

    def _settle(self) -> None:
        """Draw the conclusions from whatever happened, and tell them."""
        now = self._clock()
        for dependency in self._dependencies:
            dependency.expire(now)
        self._stale_at = min(
            (at for dependency in self._dependencies if (at := dependency.stale_at) is not None), default=float("inf")
        )
        before, self._health = self._health, self._verdict()
        if self._health is not before and self._on_health is not None:
            self._on_health(self._health)
        changes, self._changes = self._changes, []
        for change in changes:
            self._tell(change)
        if self._health is not before:
            self._log.info("health changed", before=before.value, health=self._health.value)

    def _tell(self, change: StateChange) -> None:
        level = self._log.info if change.after is DependencyState.UP else self._log.warning
        level(
            f"dependency is {change.after.value}",
            dependency=change.name,
            critical=change.critical,
            before=change.before.value,
            reason=change.reason,
        )
        if self._on_change is None:
            return
        try:
            self._on_change(change)
        except Exception:  # noqa: BLE001 - whoever listens must not stop the checks
            self._log.exception("on_change failed", dependency=change.name)

    def _verdict(self) -> Health:
        if any(each.check.critical and each.state is not DependencyState.UP for each in self._dependencies):
            return Health.NOT_SERVING
        if any(each.state is DependencyState.DOWN for each in self._dependencies):
            return Health.DEGRADED
        return Health.SERVING

    def _dependency(self, check: DependencyCheck, now: float) -> Dependency:
        def changed(before: DependencyState, after: DependencyState, reason: str, at: float) -> None:
            self._changes.append(StateChange(check.name, check.critical, before, after, reason, self._verdict(), at))

        return Dependency(check, now, changed)

    def _pause(self, dependency: Dependency) -> float:
        interval = dependency.check.interval
        if dependency.state is not DependencyState.UP:
            # Nobody is served meanwhile, or less well: find out soon that it works again, yet leave it room to recover.
            interval = min(interval, FIRST_RETRY * 2.0 ** min(dependency.failures, 30))
        return interval * (2 - LONGEST_INTERVAL + 2 * (LONGEST_INTERVAL - 1) * self._jitter())


class _Probing:
    """When one dependency is probed, and what has become of its probe."""

    def __init__(self, dependency: Dependency, clock: Clock, pause: Callable[[Dependency], float]) -> None:
        self.dependency = dependency
        self.due = clock()
        """When something must happen: the next probe begins, or the one in flight has taken too long."""
        self.task: asyncio.Task[tuple[str, float]] | None = None
        self._clock = clock
        self._pause = pause
        self._started = 0.0
        self._overdue = False

    def step(self, now: float) -> None:
        """Do what is due at `now`."""
        if self.task is not None and self.task.done():
            self._collect(self.task, now)
        if now < self.due:
            return
        if self.task is None:
            check = self.dependency.check
            self._started, self._overdue, self.due = now, False, now + check.timeout
            self.task = asyncio.create_task(self._probe(), name=f"health probe {check.name}")
        else:
            self._overdue = True
            self.dependency.failed(now, f"TimeoutError: no answer within {now - self._started:.3g} s")
            self.task.cancel()
            self.due = now + self._pause(self.dependency)

    def _collect(self, task: asyncio.Task[tuple[str, float]], now: float) -> None:
        self.task = None
        if self._overdue:  # has been counted, and the next probe has its time
            return
        if task.cancelled():  # before it began
            self.dependency.failed(now, "CancelledError")
        else:
            reason, latency = task.result()
            if reason:
                self.dependency.failed(now, reason, latency)
            else:
                self.dependency.succeeded(now, latency)
        self.due = now + self._pause(self.dependency)

    async def _probe(self) -> tuple[str, float]:
        reason = ""
        try:
            if not await self.dependency.check.probe():
                reason = "the probe answered no"
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a probe's own CancelledError or SystemExit is a failure like others
            reason = reason_of(error)
        return reason, self._clock() - self._started
