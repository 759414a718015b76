"""Rounds in which every contestant has its turn, each round beginning with another one."""

import statistics
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure: a round gives each contestant `seconds` of load."""

    rounds: int
    seconds: float
    before: Path | None = None
    """A tree whose library competes, too, where the benchmark can have it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one contestant did in one round; `cpu_s` is the server's own CPU time per OK call, in seconds."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_s: float
    rss_mb: float


@dataclass(slots=True)
class Results:
    """All turns of all contestants."""

    turns: dict[str, list[Turn]] = field(default_factory=dict)

    def median(self, contestant: str, figure: str) -> float:
        """Return the median of a figure over the rounds."""
        return statistics.median(getattr(turn, figure) for turn in self.turns[contestant])

    def ratios(self, figure: Callable[[Mapping[str, Turn]], float]) -> list[float]:
        """Return `figure` of each round, which sees the turns of that round by contestant."""
        return [figure(dict(zip(self.turns, turns, strict=True))) for turns in zip(*self.turns.values(), strict=True)]


async def play(contestants: Sequence[str], turn: Callable[[str], Awaitable[Turn]], effort: Effort) -> Results:
    """Let every contestant have its turn in every round, after one round that warms up and does not count.

    The first of a round suffers most from whatever ran before, so each round begins with the next contestant.
    """
    results = Results({contestant: [] for contestant in contestants})
    for number in range(effort.rounds + 1):
        start = number % len(contestants)
        for contestant in [*contestants[start:], *contestants[:start]]:
            measured = await turn(contestant)
            if number:
                results.turns[contestant].append(measured)
        note = "warmed up" if not number else f"round {number} of {effort.rounds}"
        print(f"{note}", file=sys.stderr, flush=True)
    return results
