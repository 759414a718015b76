"""How long one call may take."""

from math import isfinite


def call_timeout(asked: float | None, planned: float, left: float | None) -> float:
    """Return the seconds of a call: what its caller asks for, or else the plan's, and never more than is left.

    `left` is what remains of the call that this one is made for, None outside of one. 0 means that nothing may be sent.
    Raise ValueError for what is no number of seconds: a call without an end is not made.
    """
    if asked is None:
        own = planned
    elif isfinite(asked):
        own = asked
    else:
        raise ValueError(f"a call needs a timeout that ends, not {asked}; leave it out for the policy's")
    if left is not None and left < own:
        own = left
    return own if own > 0 else 0.0
