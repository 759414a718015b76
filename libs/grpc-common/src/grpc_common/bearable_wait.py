"""How long somebody can be told to wait."""

import math
from typing import Final

LONGEST_WAIT: Final = 86_400.0
"""Seconds: nothing of ours is held up for longer than a day."""


def bearable_wait(seconds: object) -> float | None:
    """Return `seconds`, at least 0 and at most a day; None where they are no number."""
    if not isinstance(seconds, int | float) or math.isnan(seconds if isinstance(seconds, float) else 0.0):
        return None
    return float(min(max(seconds, 0), LONGEST_WAIT))
