"""`./mesh down`: stops what `up` started."""

import contextlib
import os
import signal
import time

from localmesh import screen
from localmesh.failure import MeshError
from localmesh.state import StateFolder

STOP_WITHIN = 45.0


def down(state: StateFolder) -> int:
    """Returns when nothing runs any more; 0 also when nothing did."""
    pid = state.holder()
    if pid is None:
        left = state.end_leftovers()
        screen.console.print(
            f"The mesh is not running; ended what it had left: {', '.join(left)}."
            if left
            else "The mesh is not running."
        )
        return 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)  # it may have been stopped, by Ctrl-Z for example
    give_up = time.monotonic() + STOP_WITHIN
    while state.holder() == pid:
        if time.monotonic() > give_up:
            raise MeshError(
                f"the mesh (pid {pid}) did not stop within {STOP_WITHIN:.0f} s; kill -9 it, then run down again"
            )
        time.sleep(0.05)
    screen.console.print("The mesh is down.")
    return 0
