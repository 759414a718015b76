"""Where log lines go: a buffer that a thread of its own writes out, so that a slow reader never holds up a call."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, SupportsBytes

MAX_WAITING: Final = 50_000
"""Lines; what comes while so many wait is dropped and counted."""
INTERVAL: Final = 0.05
"""Seconds a line may wait for company."""


class LogSink:
    """Takes lines from any thread at the cost of an append; `write` gets many of them at once.

    A line is bytes, or what `bytes()` makes a line of: then the thread does that, many at a time. Between two calls the
    processor has forgotten the code that renders, which makes it several times as expensive there.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        dropped_line: Callable[[int], bytes],
        interval: float = INTERVAL,
    ) -> None:
        self._write = write
        self._interval = interval
        self._dropped_line = dropped_line
        self._waiting: deque[SupportsBytes] = deque()
        self._dropped = 0
        self._some = threading.Event()
        self._told = False
        self._now = threading.Event()
        self._closed = False
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="log-sink", daemon=True)
        self._thread.start()

    def put(self, line: SupportsBytes) -> None:
        """Write `line` within the interval."""
        if self._closed:
            self._waiting.append(line)
            self.flush()
        elif len(self._waiting) < MAX_WAITING:
            self._waiting.append(line)
            if not self._told:
                self._told = True
                self._some.set()
        else:
            self._dropped += 1

    def put_now(self, line: SupportsBytes) -> None:
        """Write `line` as soon as the thread runs: what a failing process says last must not be lost."""
        self.put(line)
        self._now.set()

    def flush(self, timeout: float = 1.0) -> None:
        """Write all that waits, for at most `timeout` seconds when the reader does not read."""
        if self._writing.acquire(timeout=timeout):
            try:
                self._drain()
            finally:
                self._writing.release()

    def close(self, timeout: float = 1.0) -> None:
        """Write all that waits and end the thread; later lines are written as they come."""
        self._closed = True
        self._some.set()
        self._now.set()
        self._thread.join(timeout)
        # With a thread that hangs in a write nobody reads, nothing more can be done.
        if not self._thread.is_alive():
            self.flush(timeout)

    def _run(self) -> None:
        while not self._closed:
            self._some.wait()
            self._now.wait(self._interval)
            self._now.clear()
            self._some.clear()
            self._told = False
            with self._writing:
                self._drain()

    def _drain(self) -> None:
        # Only what waits now: with writers that keep pace, taking until none waits would never come to the write, and
        # what is in hand, unlike what waits, has no limit.
        lines = [bytes(self._waiting.popleft()) for _ in range(len(self._waiting))]
        dropped, self._dropped = self._dropped, 0
        if dropped:
            lines.append(self._dropped_line(dropped))
        if lines:
            try:
                self._write(b"".join(lines))
            except (OSError, ValueError):  # nobody reads any more, or the stream is closed: there is no one to tell
                return
