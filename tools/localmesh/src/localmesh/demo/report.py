"""The demo's summary."""

import statistics

from rich.console import Group
from rich.table import Table

from localmesh.demo.findings import Findings, Timing
from localmesh.demo.refusal import Refusal


def report(findings: Findings) -> Group:
    """What was done and how fast, what was refused and why."""
    return Group(
        *(f"  {line}" for line in findings.sessions),
        "",
        _timings(findings),
        "",
        *(f"  {change}" for change in findings.changes),
        "",
        _refusals(findings),
        "",
        f"  Memory of the whole mesh: {findings.memory / 2**20:.0f} MiB.",
    )


def _timings(findings: Findings) -> Table:
    table = _table("What was done", "", "calls", "a second", "p50", "p99")
    for name, timing in findings.timings.items():
        rate = len(timing.calls) / timing.whole
        table.add_row(name, str(len(timing.calls)), f"{rate:.0f}", *(f"{ms:.1f} ms" for ms in _percentiles(timing)))
    return table


def _percentiles(timing: Timing) -> tuple[float, float]:
    cuts = statistics.quantiles((seconds * 1000 for seconds in timing.calls), n=100, method="inclusive")
    return cuts[49], cuts[98]


def _refusals(findings: Findings) -> Table:
    table = _table("What was refused", "", "status", "why")
    for what, refusal in findings.refusals.items():
        table.add_row(what, refusal.status, _why(refusal))
    return table


def _why(refusal: Refusal) -> str:
    if refusal.violations:
        return "\n".join(f"{field}: {fault}" for field, fault in refusal.violations.items())
    return refusal.message


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2), header_style="dim")
    numbers = {"calls", "a second", "p50", "p99"}
    for heading in headings:
        table.add_column(heading, justify="right" if heading in numbers else "left")
    return table
