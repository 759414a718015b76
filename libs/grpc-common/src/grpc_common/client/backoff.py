"""The pauses between attempts: exponential, with full jitter."""

from dataclasses import dataclass
from math import inf
from random import Random

MULTIPLIER = 2.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses drawn from 0 to a bound, which is `initial` seconds, then doubles, and never passes `maximum`."""

    initial: float
    maximum: float

    def __post_init__(self) -> None:
        if not 0 < self.initial <= self.maximum < inf:
            raise ValueError(f"a backoff grows from above 0 to an end, not from {self.initial} s to {self.maximum} s")

    def bound(self, retry: int) -> float:
        """Return the widest pause, in seconds, before that retry; the first one is 1."""
        doublings = min(retry - 1, 1000)  # 2.0 ** 1024 is more than a float holds
        return min(self.maximum, self.initial * MULTIPLIER**doublings)

    def pause(self, retry: int, random: Random) -> float:
        """Draw the pause before that retry: from the whole range, so that callers who failed together part."""
        return random.uniform(0.0, self.bound(retry))
