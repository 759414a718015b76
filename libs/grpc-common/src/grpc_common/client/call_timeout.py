"""How long one call may take."""

from math import isfinite
from typing import SupportsFloat

from grpc_common.policy import LONGEST


def call_timeout(asked: float | None, planned: float, left: float | None) -> float:
    """Return the seconds of a call: what its caller asks for, else the plan's; at most LONGEST and what is left.

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
            return LONGEST if asked > 0 else 0.0  # type: ignore[operator]  # what is a number compares with one
    else:
        raise TypeError(f"timeout is a number of seconds, not a {type(asked).__name__}")
    if not isfinite(seconds):
        raise ValueError(f"a call needs a timeout that ends, not {asked}; leave it out for the policy's")
    return seconds
