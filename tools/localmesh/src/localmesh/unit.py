"""One supervised process: started until it answers, watched, and started again when it dies."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from localmesh.failure import MeshError
from localmesh.ledger import Ledger
from localmesh.process import Command, Process

START_WITHIN = 60.0
PROBE_EVERY = 2.0
PROBE_WITHIN = 3.0
PROBE_EAGERLY_EVERY = 0.05
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
SHOWN_OF_A_DEATH = 5
STABLE_AFTER = 30.0
"""A process that lived this many seconds starts again without a longer pause."""

type Prepare = Callable[[], Awaitable[None]]
"""Gives a process what it needs anew at every start; raises MeshError when it cannot just now."""

type Probe = Callable[[], Awaitable[None]]
"""Returns when the process does its work, raises whatever it likes when it does not."""


@dataclass(frozen=True)
class Death:
    """How a process ended that should have lived: seconds since 1970, in words, and its last lines."""

    at: float
    how: str
    lines: str


class Unit:
    """A process the mesh keeps alive. `start`, then `watch`; `stop` ends both."""

    def __init__(
        self,
        name: str,
        command: Callable[[], Command],
        probe: Probe,
        log: Path,
        ledger: Ledger | None = None,
        prepare: Prepare | None = None,
    ) -> None:
        self.name = name
        self.restarts = 0
        self.ready = False
        self.death: Death | None = None
        self.on_change: Callable[[], None] = lambda: None
        """Told when there is another process, or it is ready or no longer is; must not raise."""
        self._command = command
        self._probe = probe
        self._log = log
        self._ledger = ledger
        self._prepare = prepare
        self._process: Process | None = None
        self._started = 0.0
        self._watching: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process id, 0 while there is none."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    async def start(self) -> None:
        """Starts the process and returns when it is ready; stops it again when that fails."""
        try:
            await self._spawn()
            await self._until_ready()
        except BaseException:
            await self.stop()
            raise

    def watch(self) -> None:
        """From now on a dead process is started again, after pauses that grow while it keeps dying."""
        self._watching = asyncio.create_task(self._keep_alive(), name=f"watch {self.name}")

    async def restart(self) -> None:
        """Stops the process and starts it again; when that fails it is watched all the same, and tried again."""
        await self.stop()
        self.restarts += 1
        try:
            await self._spawn()
            await self._until_ready()
        finally:
            self.watch()

    async def stop(self) -> None:
        """Ends the watching and the process, in bounded time."""
        try:
            if self._watching is not None:
                self._watching.cancel()
                await asyncio.gather(self._watching, return_exceptions=True)
                self._watching = None
        finally:
            if self._process is not None:
                await self._process.stop()
            self._set_ready(False)

    async def _spawn(self) -> None:
        if self._prepare is not None:
            await self._prepare()
        self._process = await Process.spawn(self._command(), self._log, self._ledger)
        self._started = time.monotonic()
        self.on_change()

    async def _until_ready(self) -> None:
        give_up = time.monotonic() + START_WITHIN
        while (fault := await self._fault()) is not None:
            if self._process is not None and self._process.returncode is not None:
                raise self._failure(f"{self.name} died while starting, {_how(self._process.returncode)}")
            if time.monotonic() > give_up:
                raise self._failure(f"{self.name} was not ready after {START_WITHIN:.0f} s: {fault}")
            await asyncio.sleep(PROBE_EAGERLY_EVERY)
        self._set_ready(True)

    async def _fault(self) -> str | None:
        try:
            async with asyncio.timeout(PROBE_WITHIN):
                await self._probe()
        except TimeoutError:
            return "it does not answer"
        except Exception as error:  # noqa: BLE001 - whatever a probe raises means "not ready"
            return str(error) or type(error).__name__
        return None

    def _failure(self, sentence: str) -> MeshError:
        detail = "" if self._process is None else self._process.last_lines()
        return MeshError(sentence, detail=detail or f"it wrote nothing to {self._log}")

    async def _keep_alive(self) -> None:
        pause = FIRST_PAUSE
        while True:
            await self._until_dead()
            self._note_death()
            self._set_ready(False)
            if time.monotonic() - self._started > STABLE_AFTER:
                pause = FIRST_PAUSE
            self.restarts += 1
            while not await self._spawned_after(pause):
                pause = min(pause * 2, LONGEST_PAUSE)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _spawned_after(self, pause: float) -> bool:
        """Whether there is a process again; none while there is no memory for it, or who prepares it is away."""
        await asyncio.sleep(pause)
        try:
            await self._spawn()
        except (OSError, MeshError):
            return False
        return True

    async def _until_dead(self) -> None:
        while self._process is not None:
            every = PROBE_EVERY if self.ready else PROBE_EAGERLY_EVERY
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(every):
                    await self._process.wait()
                    return
            self._set_ready(await self._fault() is None)

    def _note_death(self) -> None:
        if self._process is not None and self._process.returncode is not None:
            how = _how(self._process.returncode)
            self.death = Death(time.time(), how, self._process.last_lines(SHOWN_OF_A_DEATH))
            with contextlib.suppress(OSError), self._log.open("a") as log:  # what starts it again needs no such line
                log.write(f"-- {self.name} ended {how}; starting it again --\n")

    def _set_ready(self, ready: bool) -> None:
        if ready != self.ready:
            self.ready = ready
            self.on_change()


def _how(status: int) -> str:
    if status < 0:
        return f"by {signal.Signals(-status).name}"
    return f"with exit status {status}"
