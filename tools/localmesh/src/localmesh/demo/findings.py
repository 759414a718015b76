"""What the demo saw."""

from dataclasses import dataclass, field

from localmesh.demo.refusal import Refusal


class StepFailed(Exception):  # noqa: N818 - a sentence
    """A step did not do what it should."""


@dataclass
class Timing:
    """How long the calls of a step took, in seconds."""

    calls: list[float] = field(default_factory=list)
    whole: float = 0.0


@dataclass
class Findings:
    """What the demo saw."""

    sessions: list[str] = field(default_factory=list)
    timings: dict[str, Timing] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    memory: int = 0


def must(condition: bool, otherwise: str) -> None:
    """Raises `StepFailed` with a sentence unless the condition holds."""
    if not condition:
        raise StepFailed(otherwise)
