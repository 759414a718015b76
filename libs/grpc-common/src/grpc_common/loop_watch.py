"""Who holds the event loop: a thread looks at it, and names the call whose handler lets nobody else run."""

import asyncio
import sys
import threading
import time
from types import FrameType
from typing import Final, Self
from weakref import WeakKeyDictionary

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Histogram

from grpc_common.call import current_call

HELD: Final = 0.25
"""Seconds without a turn of the loop that are worth a line."""
STILL: Final = 30.0
"""Seconds after which it is told before the end, for there may be none."""
PERIOD: Final = 0.05
MAX_FRAMES: Final = 8
BUCKETS: Final = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LABELS: Final = ("grpc_service", "grpc_method")
NOBODY: Final = ("", "")
"""The labels of what was no call, or was not seen."""


class LoopWatch:
    """Watches the loop it is started in; costs calls nothing, and the loop a callback every PERIOD.

    A handler that holds the loop for more than `held` seconds (`time.sleep`, a driver that is not asynchronous, a long
    computation) leaves one line with the seconds, the method and where it stood, and counts in the histogram
    `event_loop_held_seconds`. Where the whole process was held up, by a machine with too much to do, nobody is blamed.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, *, held: float = HELD, still: float = STILL) -> None:
        self._metric = _histogram(registry)
        self._held = held
        self._still = still
        self._log = structlog.get_logger(component="loop")
        self._stopping = threading.Event()
        self._beat = self._cpu = 0.0
        self._seen: tuple[tuple[str, str], dict[str, object]] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._users = 0
        self._next: asyncio.TimerHandle | None = None
        self._thread_id = 0

    @classmethod
    def of_running_loop(cls) -> Self:
        """Return the one that all servers of this loop share."""
        loop = asyncio.get_running_loop()
        found = _of_loop.get(loop)
        if found is None:
            found = _of_loop[loop] = cls()
        return found  # type: ignore[return-value]  # only this class puts any in

    def start(self) -> None:
        """Begin to watch the running loop."""
        self._users += 1
        if self._users > 1:
            return
        self._beat = 0.0
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._stopping = threading.Event()
        self._turn()
        looking = (self._loop, self._stopping)
        threading.Thread(target=self._look, args=looking, name="loop-watch", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer, once all who have started it have stopped it."""
        self._users -= 1
        if self._users > 0:
            return
        self._stopping.set()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._loop = None

    def _turn(self) -> None:
        now, cpu = time.monotonic(), time.thread_time()
        if self._beat:
            self._judge(now - self._beat - PERIOD, cpu - self._cpu)
        self._seen, self._cpu, self._beat = None, cpu, now
        assert self._loop is not None  # noqa: S101  # `start` has set it
        self._next = self._loop.call_later(PERIOD, self._turn)

    def _judge(self, seconds: float, busy: float) -> None:
        if seconds < self._held:
            return
        # Unseen, but the loop's thread was at work for most of the time: code that lets no other thread run, either.
        if self._seen is None and busy < seconds / 2:
            return
        labels, facts = self._seen or (NOBODY, {})
        self._metric.labels(*labels).observe(seconds)
        if not facts.get("told"):
            self._tell("the event loop was held", seconds, facts)

    def _tell(self, event: str, seconds: float, facts: dict[str, object]) -> None:
        shown = {name: value for name, value in facts.items() if name != "told"}
        self._log.warning(event, seconds=round(seconds, 3), **shown)

    def _look(self, loop: asyncio.AbstractEventLoop, stopping: threading.Event) -> None:
        beat, missed, before = self._beat, 0.0, time.monotonic()
        while not stopping.wait(PERIOD):
            now = time.monotonic()
            if beat != self._beat:
                beat, missed = self._beat, 0.0
            else:
                # Of a sleep that lasted longer, only what was asked for: the loop could not run then, either.
                missed += min(now - before, 2 * PERIOD)
            before = now
            if missed < self._held:
                continue
            if self._seen is None:
                self._seen = self._who(loop)
            facts = self._seen[1]
            if missed > self._still and not facts.get("told") and beat == self._beat:
                facts["told"] = True
                self._tell("the event loop is still held", missed, facts)

    def _who(self, loop: asyncio.AbstractEventLoop) -> tuple[tuple[str, str], dict[str, object]]:
        facts: dict[str, object] = {}
        labels = NOBODY
        task = asyncio.current_task(loop)
        if task is not None:
            call = task.get_context().get(current_call)
            if call is None:
                facts["task"] = task.get_name()
            else:
                method = call.method.label
                labels = (method.service, method.name)
                facts |= {"method": method.path, "correlation_id": call.correlation_id}
        facts["at"] = _frames(sys._current_frames().get(self._thread_id))  # noqa: SLF001  # documented, for debugging
        return labels, facts


def _frames(frame: FrameType | None) -> list[str]:
    found: list[str] = []
    while frame is not None and len(found) < MAX_FRAMES:
        found.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}")
        frame = frame.f_back
    return found


def _histogram(registry: CollectorRegistry) -> Histogram:
    found = _of_registry.get(registry)
    if found is None:
        found = _of_registry[registry] = Histogram(
            "event_loop_held_seconds",
            "Time for which a call, or what belongs to none, let nothing else run on the event loop.",
            LABELS,
            registry=registry,
            buckets=BUCKETS,
        )
    return found


_of_registry: Final[WeakKeyDictionary[CollectorRegistry, Histogram]] = WeakKeyDictionary()
_of_loop: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, LoopWatch]] = WeakKeyDictionary()
