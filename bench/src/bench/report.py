"""What a benchmark answers: a table for people, one JSON object for scripts."""

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.rounds import Effort, Results


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of every round, and the least its median should be."""

    name: str
    rounds: Sequence[float]
    target: float | None = None
    at_most: bool = False

    @property
    def median(self) -> float:
        """The median over the rounds."""
        return statistics.median(self.rounds)

    @property
    def verdict(self) -> str:
        """Whether the target is met; a spread wider than the margin to it leaves that open."""
        if self.target is None:
            return ""
        met = self.median <= self.target if self.at_most else self.median >= self.target
        sided = all((value <= self.target) == (self.median <= self.target) for value in self.rounds)
        return f"{'met' if met else 'missed'}{'' if sided else ', but the spread crosses the target'}"


@dataclass(frozen=True, slots=True)
class Report:
    """All that was measured."""

    name: str
    effort: Effort
    results: Results
    ratios: Sequence[Ratio]
    tables: Sequence[Table] = ()
    cpu_of: str = "server"
    """Whose CPU time was measured."""


def as_json(report: Report) -> dict[str, Any]:
    """Return the object that scripts read."""
    figures = ("per_s", "p50_ms", "p99_ms", "cpu_s", "rss_mb")
    return {
        "name": report.name,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "rounds": report.effort.rounds,
        "contestants": {
            name: {figure: report.results.median(name, figure) for figure in figures} for name in report.results.turns
        },
        "ratios": {ratio.name: round(ratio.median, 4) for ratio in report.ratios},
        "spreads": {ratio.name: [round(min(ratio.rounds), 4), round(max(ratio.rounds), 4)] for ratio in report.ratios},
        "verdicts": {ratio.name: ratio.verdict for ratio in report.ratios if ratio.verdict},
    }


def show(report: Report) -> None:
    """Print the tables."""
    console = Console()
    contestants = Table(title=f"{report.name}: medians of {report.effort.rounds} rounds on {machine()}")
    contestants.add_column("contestant")
    for column in ("calls/s", "p50 ms", "p99 ms", f"{report.cpu_of} CPU µs/call", "RSS MB"):
        contestants.add_column(column, justify="right")
    for name in report.results.turns:
        median = report.results.median
        contestants.add_row(
            name,
            f"{median(name, 'per_s'):,.0f}",
            f"{median(name, 'p50_ms'):.2f}",
            f"{median(name, 'p99_ms'):.2f}",
            f"{median(name, 'cpu_s') * 1e6:.1f}",
            f"{median(name, 'rss_mb'):.0f}",
        )
    console.print(contestants)
    ratios = Table(title=f"ratios (of {report.cpu_of} CPU per OK call, unless named otherwise)")
    for column in ("ratio", "median", "spread", "target", "verdict"):
        ratios.add_column(column, justify="left" if column in {"ratio", "verdict"} else "right")
    for ratio in report.ratios:
        sign = "≤" if ratio.at_most else "≥"
        ratios.add_row(
            ratio.name,
            f"{ratio.median:.3f}",
            f"{min(ratio.rounds):.3f} to {max(ratio.rounds):.3f}",
            "" if ratio.target is None else f"{sign} {ratio.target}",
            ratio.verdict,
        )
    console.print(ratios)
    for table in report.tables:
        console.print(table)


def machine() -> str:
    """Name the machine as far as it matters to a ratio."""
    cpu = platform.processor() or platform.machine()
    return f"{os.cpu_count()} x {cpu}, {platform.system()} {platform.release()}, CPython {platform.python_version()}"
