"""`./mesh logs`: what the processes wrote."""

import sys
import time
from pathlib import Path

from localmesh.failure import UsageError
from localmesh.state import StateFolder
from localmesh.topology import near

POLL_EVERY = 0.2


def logs(state: StateFolder, name: str | None, *, follow: bool) -> int:
    """Prints the log of one process, or of all with their names before each line; `follow` goes on until Ctrl-C."""
    files = {path.stem: path for path in sorted(state.logs.glob("*.log"))}
    if not files:
        raise UsageError(f"there are no logs in {state.logs}: the mesh has not run yet")
    if name is not None and name not in files:
        raise UsageError(f"nothing called {name} has logs{near(name, files)} There are: {', '.join(files)}.")
    chosen = files if name is None else {name: files[name]}
    tails = [_Tail(path, f"{each:<14} | " if name is None else "") for each, path in chosen.items()]
    while True:
        for tail in tails:
            tail.print_new()
        sys.stdout.flush()
        if not follow:
            return 0
        time.sleep(POLL_EVERY)


class _Tail:
    """A file of which each line is printed once; one that is made anew is read from its start."""

    def __init__(self, path: Path, prefix: str) -> None:
        self._path = path
        self._prefix = prefix
        self._position = 0

    def print_new(self) -> None:
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return
        if size < self._position:
            self._position = 0
        with self._path.open("rb") as file:
            file.seek(self._position)
            text = file.read()
        whole, newline, _ = text.rpartition(b"\n")
        self._position += len(whole) + len(newline)
        for line in (whole + newline).decode(errors="replace").splitlines():
            sys.stdout.write(f"{self._prefix}{line}\n")
