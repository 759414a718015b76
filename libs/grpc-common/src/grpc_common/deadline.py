"""How much time is left: the budget of the call that this task works for."""

from time import monotonic

from grpc_common.call import current_call


def remaining(own: float | None = None) -> float | None:
    """Return the seconds that the next piece of work may take: the lesser of `own` and what the call has left.

    None means as long as it likes: there is no call, or one without a deadline, and `own` is None. Never below 0.
    """
    call = current_call.get()
    if call is None or call.deadline is None:
        return own
    left = max(0.0, call.deadline - monotonic())
    return left if own is None else min(own, left)
