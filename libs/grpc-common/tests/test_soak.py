"""Nothing is left of cancelled and broken calls; with `SOAK_SECONDS=600` for longer than the suite has.

`SOAK_SUBJECT=bare` makes the same calls to a server without interceptors, to tell core's growth from ours.
"""

import os
from contextlib import contextmanager

import pytest
import structlog

from soak import MAX_CONTEXTS, grows, rss_slope, soak
from subjects import subject_of

SECONDS = float(os.environ.get("SOAK_SECONDS", "12"))
SUBJECT = os.environ.get("SOAK_SUBJECT", "chain")


@pytest.mark.timeout(300 + 2 * SECONDS)
async def test_nothing_is_left_of_calls_however_they_end():
    with quiet():
        windows, findings = await soak(subject_of(SUBJECT), SECONDS)
    first, last = windows[0], windows[-1]
    print(*windows, f"RSS slope {rss_slope(windows):.3f} MiB per 1000 calls", sep="\n")
    assert not findings
    assert last.tasks <= first.tasks
    assert last.contexts <= MAX_CONTEXTS
    assert not grows(windows)


@contextmanager
def quiet():
    def drop(logger, method, entry):
        raise structlog.DropEvent

    processors = structlog.get_config()["processors"]
    before = list(processors)
    processors[:] = [drop]
    try:
        yield
    finally:
        processors[:] = before
