"""How many calls are hedged, and when."""

from typing import Final

SAMPLES: Final = 512
LEAST_SAMPLES: Final = 64
EVERY: Final = 64
QUANTILE: Final = 0.95
BURST: Final = 2.0
"""Hedges at once after a quiet time."""


class HedgeBudget:
    """At most `ratio` hedges per call: each call brings that share of a token, each hedge takes a whole one."""

    __slots__ = ("_ratio", "_tokens")

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio
        self._tokens = 0.0

    def call(self) -> None:
        """Note a call that could be hedged."""
        tokens = self._tokens + self._ratio
        self._tokens = min(BURST, tokens)

    def take(self) -> bool:
        """Say whether a hedge may begin now, and count it."""
        # The shares add up to a whole only within the accuracy of a float.
        if self._tokens < 1.0 - 1e-9:
            return False
        self._tokens = max(0.0, self._tokens - 1.0)
        return True


class Latencies:
    """How long the latest calls of a method took."""

    __slots__ = ("_next", "_samples", "slow")

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._next = 0
        self.slow: float | None = None
        """Seconds that 95 of 100 of them stayed below, and never less than twice the median: where all calls take
        about as long, none is slow. None while there are too few to tell."""

    def record(self, seconds: float) -> None:
        """Note a call that took so long; every so many calls the quantile is found again."""
        samples, at = self._samples, self._next
        if len(samples) < SAMPLES:
            samples.append(seconds)
        else:
            samples[at % SAMPLES] = seconds
        self._next = at = at + 1
        if at % EVERY == 0 and at >= LEAST_SAMPLES:
            ordered = sorted(samples)
            self.slow = max(ordered[int(len(ordered) * QUANTILE)], 2 * ordered[len(ordered) // 2])
