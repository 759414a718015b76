"""An event loop whose time passes only when there is nothing else to do: hours in milliseconds, and always the same."""

import asyncio
import selectors

from grpc_common.client.clock import Clock


class _Impatient(selectors.DefaultSelector):
    def __init__(self):
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        found = super().select(0)
        if not found and timeout is None:
            raise AssertionError("everybody waits, and nothing will ever happen")
        if not found and timeout > 0:
            self.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its `time` begins at 0."""

    def __init__(self):
        self._time = _Impatient()
        super().__init__(self._time)

    def time(self):
        return self._time.now


def run(coroutine):
    """Run in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


CLOCK = Clock(lambda: asyncio.get_running_loop().time(), asyncio.sleep)
