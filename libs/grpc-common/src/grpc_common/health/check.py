"""How one dependency is checked."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

type Probe = Callable[[], Awaitable[bool]]
"""Asks a dependency whether it works: True when it does; False, an exception or no answer in time when it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyCheck:
    """A dependency, how often it is probed, and how many answers change our mind about it; times are in seconds."""

    name: str
    probe: Probe
    critical: bool = True
    """Whether the server is NOT_SERVING without it; without another one it is degraded, and SERVING."""
    timeout: float = 2.0
    """How long a probe may take; then it is cancelled and has failed."""
    interval: float = 5.0
    """From one answer to the next probe, ± 10 %; while the dependency is not up, shorter at first."""
    failures_to_down: int = 3
    """Failures in a row that take it down; of a new dependency the first answer decides."""
    successes_to_up: int = 2
    """Successes in a row that bring it up again."""
    stale_after: float = 30.0
    """The age at which the last answer is worth nothing, and the dependency is down."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a dependency check needs a name")
        for field in ("timeout", "interval"):
            if getattr(self, field) <= 0:
                raise ValueError(f"dependency {self.name!r}: {field} must be more than 0 seconds")
        for field in ("failures_to_down", "successes_to_up"):
            if getattr(self, field) < 1:
                raise ValueError(f"dependency {self.name!r}: {field} must be at least 1")
        slowest = self.interval * LONGEST_INTERVAL + self.timeout
        if self.stale_after <= slowest:
            raise ValueError(
                f"dependency {self.name!r}: stale_after ({self.stale_after:g} s) must be longer than an interval and a "
                f"timeout together ({slowest:g} s), or it is down between two good answers"
            )


LONGEST_INTERVAL = 1.1
"""The longest an interval gets by jitter, as a factor."""


def checks_of(
    dependencies: Mapping[str, Probe | DependencyCheck] | Iterable[DependencyCheck],
) -> tuple[DependencyCheck, ...]:
    """Return `dependencies` as checks; a bare probe is critical and has the default times."""
    if not isinstance(dependencies, Mapping):
        checks = tuple(dependencies)
        names = [check.name for check in checks]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"more than one dependency check is named {', '.join(map(repr, twice))}")
        return checks
    return tuple(_check(name, given) for name, given in dependencies.items())


def _check(name: str, given: Probe | DependencyCheck) -> DependencyCheck:
    if not isinstance(given, DependencyCheck):
        return DependencyCheck(name=name, probe=given)
    if given.name != name:
        raise ValueError(f"the dependency check {given.name!r} is listed under another name, {name!r}")
    return given
