"""How long one call may take."""

from math import isfinite
from typing import Final, SupportsFloat

LONGEST: Final = 365 * 24 * 3600.0
"""Seconds: a year. A longer time is cut to it.

Core keeps deadlines as nanoseconds since 1970 in 64 bits: from about 7.4e9 seconds on they lie in the past, and the
call is DEADLINE_EXCEEDED at once. What it tells servers is never more than 27000 hours.
"""


def call_timeout(asked: float | None, planned: float, left: float | None) -> float:
    """Return the seconds of a call: what its caller asks for, or else the plan's, and never more than is left.

    `left` is what remains of the call that this one is made for, None outside of one. 0 means that nothing may be sent.
    Raise TypeError for what is no number, ValueError for one that is not finite: a call without an end is not made.
    """
    own = planned if asked is None else _seconds(asked)
    if left is not None and left < own:
        own = left
    return min(own, LONGEST) if own > 0 else 0.0


def _seconds(asked: object) -> float:
    if type(asked) is float:
        seconds = asked
    elif isinstance(asked, SupportsFloat) and not isinstance(asked, bool):
        try:
            seconds = float(asked)
        except OverflowError:
            return LONGEST if str(asked)[0] != "-" else 0.0
    else:
        raise TypeError(f"timeout is a number of seconds, not a {type(asked).__name__}")
    if not isfinite(seconds):
        raise ValueError(f"a call needs a timeout that ends, not {asked}; leave it out for the policy's")
    return seconds
