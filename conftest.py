"""A test that hangs fails, says what it was waiting for, and holds up nobody else. One that is slow does not fail."""

import asyncio
import faulthandler
import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# By itself Hypothesis fails an example that takes 200 ms, and a test whose values take long to make, which says of the
# machine how busy it is.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

OVER = "from pytest-timeout"
END_WITHIN = 60
"""Seconds that a test has for its end when its time was over; after that the process ends."""
DEEPEST = 50


def pytest_exception_interact(node: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Shows at once which tasks are under way when the time of a test is over, each with what it awaits.

    pytest shows where the event loop stood, which is the same in all tests, and only when all of them have ended.
    """
    if call.excinfo is not None and OVER in str(call.excinfo.value):
        faulthandler.dump_traceback_later(END_WITHIN, exit=True)
        with node.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\n{node.nodeid} hangs in its {call.when}:", *_tasks(), sep="\n", flush=True)


def pytest_runtest_logfinish() -> None:
    """Nothing ends the process when the test has ended."""
    faulthandler.cancel_dump_traceback_later()


def _tasks() -> Iterator[str]:
    # Each loop knows its own tasks, and none of them knows the loops.
    for each in gc.get_objects():
        if isinstance(each, asyncio.Task) and not each.done():
            yield "\n".join((f"\n{each.get_name()}", *_awaited(each.get_coro())))


def _awaited(awaitable: object) -> Iterator[str]:
    for _ in range(DEEPEST):
        frame = next((f for kind in ("cr", "gi", "ag") if (f := getattr(awaitable, f"{kind}_frame", None))), None)
        if frame is None:
            yield f"  {awaitable!r}"
            return
        yield f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
        names = ("cr_await", "gi_yieldfrom", "ag_await")
        awaitable = next((a for name in names if (a := getattr(awaitable, name, None)) is not None), None)
        if awaitable is None:
            return
