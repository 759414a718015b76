"""What is known about the health of a process, for its logs, its metrics and those who aggregate health."""

from dataclasses import dataclass
from enum import StrEnum


class DependencyState(StrEnum):
    """What we believe of a dependency."""

    UNKNOWN = "unknown"
    """No probe has been answered yet; counts as not up."""
    UP = "up"
    DOWN = "down"


class Health(StrEnum):
    """What follows for the process."""

    SERVING = "serving"
    DEGRADED = "degraded"
    """SERVING to clients, and something that is not critical is down."""
    NOT_SERVING = "not_serving"


@dataclass(frozen=True, slots=True)
class StateChange:
    """A dependency came up or went down, at `at` (seconds of the monitor's clock)."""

    name: str
    critical: bool
    before: DependencyState
    after: DependencyState
    reason: str
    """Why it is not up: type and first words of the error; empty when it is. For logs, never for callers."""
    health: Health
    """Of the process, now."""
    at: float


@dataclass(frozen=True, slots=True)
class DependencyHealth:
    """One dependency, now."""

    name: str
    critical: bool
    state: DependencyState
    since: float
    """When it came into this state, in seconds of the monitor's clock; see `HealthReport.at`."""
    last_ok_age: float | None
    """Seconds since a probe last succeeded; None when none has."""
    consecutive_failures: int
    reason: str
    """Why the last probe failed, or why the last answer no longer counts; empty when all is well."""
    latency_ms: float | None
    """How long the last answer took, in milliseconds; None when there is none."""


@dataclass(frozen=True, slots=True)
class HealthReport:
    """Everything at one moment, `at` (seconds of the monitor's clock)."""

    health: Health
    at: float
    dependencies: tuple[DependencyHealth, ...]
