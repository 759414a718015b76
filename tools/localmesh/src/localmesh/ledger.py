"""The list of processes we started, kept on disk so that a later run can end what an earlier one left behind."""

import json
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from localmesh.files import write_atomically

SAME_START = 0.05
"""Two readings of a process's start differ by less than this many seconds."""


@dataclass(frozen=True)
class Entry:
    """A process and what tells it from another one that got the same number later."""

    name: str
    pid: int
    started: float
    program: str


class Ledger:
    """The processes of one state folder. Only the holder of the folder's lock may write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[int, Entry] = {}

    def note(self, name: str, pid: int, argv: Sequence[str]) -> None:
        """Remembers a process just started; raises OSError when it cannot be written down."""
        with suppress(psutil.NoSuchProcess):
            self._entries[pid] = Entry(name, pid, psutil.Process(pid).create_time(), argv[0])
            self._write()

    def strike(self, pid: int) -> None:
        """Forgets a process that has ended, on a full disk too: what stays in the file is known to be another's."""
        if self._entries.pop(pid, None) is not None:
            with suppress(OSError):
                self._write()

    def end_leftovers(self) -> list[str]:
        """Kills the groups of those in the file that still run and really are ours; returns their names."""
        ended = []
        for entry in self._read():
            if _is_alive(entry):
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(entry.pid, signal.SIGKILL)
                    ended.append(entry.name)
                with suppress(psutil.Error):
                    psutil.Process(entry.pid).wait(5)
        self._path.unlink(missing_ok=True)
        return ended

    def _write(self) -> None:
        write_atomically(self._path, json.dumps([asdict(entry) for entry in self._entries.values()]))

    def _read(self) -> list[Entry]:
        try:
            return [Entry(**entry) for entry in json.loads(self._path.read_text())]
        except (OSError, ValueError, TypeError):
            return []


def _is_alive(entry: Entry) -> bool:
    try:
        process = psutil.Process(entry.pid)
        with process.oneshot():
            same_start = abs(process.create_time() - entry.started) < SAME_START
            return same_start and entry.program in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
