"""Whether a call that has failed is tried again, and when."""

from random import Random
from typing import Final

from grpc_common.client.call_plan import CallPlan
from grpc_common.client.remote_error import RemoteError, Trailers
from grpc_common.client.retry_budget import RetryBudget

PUSHBACK: Final = "grpc-retry-pushback-ms"
"""The trailer with which a server says when to come back, in milliseconds, or with a negative number: not at all."""
NEVER: Final = -1.0


def pushback(trailers: Trailers) -> float | None:
    """Return the seconds the server asks for, NEVER when it wants no more, None when it does not say (gRFC A6)."""
    for key, value in trailers:
        if key == PUSHBACK:
            text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
            # What cannot be read means "do not retry", as gRFC A6 has it.
            return int(text) / 1000 if text.isascii() and text.isdigit() and len(text) < 10 else NEVER
    return None


def next_pause(
    plan: CallPlan, failure: RemoteError, *, attempts: int, left: float, budget: RetryBudget, random: Random
) -> float | None:
    """Return the seconds to wait before the next attempt, or None when the failure is the answer.

    `attempts` have been made and `left` seconds remain; a pause that would outlast them is not begun: its caller is
    better served with the failure now than with DEADLINE_EXCEEDED later. A failure that headers came before is an
    answer that had begun: it is not asked for again (gRFC A6, "committed").
    """
    if failure.status not in plan.codes or attempts >= plan.attempts or not budget.allows:
        return None
    if failure.headers:
        return None
    wanted = pushback(failure.trailers)
    if wanted == NEVER:
        return None
    pause = plan.backoff.pause(attempts, random) if wanted is None else wanted
    if failure.retry_after is not None:
        pause = max(pause, failure.retry_after)
    return pause if pause < left else None
