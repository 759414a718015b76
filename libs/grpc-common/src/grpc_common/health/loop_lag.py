"""Whether the event loop gets round to things in time."""

import asyncio
from time import monotonic
from typing import Final

from grpc_common.health.check import DependencyCheck
from grpc_common.health.monitor import Clock


class EventLoopLagError(Exception):
    """The event loop wakes sleepers too late: something blocks it, or it has more work than it can do."""


class LoopLag:
    """Sleeps a few times and takes how late it is woken: the 90th percentile of one round, so a single hiccup is none.

    Between two rounds nothing is measured: this finds lag that lasts, not one blocking call.
    """

    def __init__(
        self, *, threshold: float = 0.25, samples: int = 10, period: float = 0.05, clock: Clock = monotonic
    ) -> None:
        """`threshold` and `period`, the length of each of the `samples` sleeps, are in seconds."""
        if threshold <= 0 or period <= 0 or samples < 1:
            raise ValueError("loop lag: threshold, period and samples must be more than 0")
        self.latest: float | None = None
        """What the last round measured, in seconds; None before the first."""
        self.threshold: Final = threshold
        self._samples = samples
        self._period = period
        self._clock = clock

    async def probe(self) -> bool:
        """Measure one round; raise EventLoopLagError above the threshold."""
        late = []
        for _ in range(self._samples):
            before = self._clock()
            await asyncio.sleep(self._period)
            late.append(self._clock() - before - self._period)
        self.latest = max(0.0, sorted(late)[int(0.9 * (self._samples - 1))])
        if self.latest > self.threshold:
            raise EventLoopLagError(f"{self.latest * 1000:.0f} ms, more than {self.threshold * 1000:.0f} ms")
        return True

    def check(self, *, critical: bool = False) -> DependencyCheck:
        """Return this as a check named `event-loop`.

        Not critical unless asked for: a busy replica that stops serving hands its load to the others, which are next.
        """
        round_seconds = self._samples * (self._period + self.threshold)
        return DependencyCheck(
            name="event-loop",
            probe=self.probe,
            critical=critical,
            interval=1.0,
            timeout=2 * round_seconds,
            stale_after=max(30.0, 4 * round_seconds),
        )
