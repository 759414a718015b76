"""The files that tell of a running mesh; a disk that is full for a while delays them, and harms nothing else."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from localmesh.deaths import write_deaths
from localmesh.files import write_atomically
from localmesh.screen import complain
from localmesh.state import StateFolder
from localmesh.status import Status
from localmesh.unit import Unit

TRY_AGAIN_EVERY = 1.0


class StatusFiles:
    """Writes the status of a mesh and the deaths of its units into the state folder."""

    def __init__(self, state: StateFolder, status: Callable[[], Status], units: Sequence[Unit]) -> None:
        self._state = state
        self._status = status
        self._units = units
        self._refused = False

    def write(self) -> None:
        """Writes both anew; a refusal by the system is said once on standard error, and never raised."""
        try:
            write_atomically(self._state.status, self._status().to_json())
            write_deaths(self._state.deaths, self._units)
        except OSError as error:
            if not self._refused:
                self._say(error)
            self._refused = True
        else:
            self._refused = False

    async def catch_up(self) -> None:
        """Writes what was refused as soon as it can be written, for ever."""
        while True:
            await asyncio.sleep(TRY_AGAIN_EVERY)
            if self._refused:
                self.write()

    def _say(self, error: OSError) -> None:
        sentence = f"{self._state.unwritable(error)}; until it takes writes again its status is an old one"
        with contextlib.suppress(OSError, ValueError):  # standard error may be a file on the same disk, or closed
            complain(sentence)
