"""The list of processes we started, kept on disk so that a later run can end what an earlier one left behind."""

import json
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from localmesh.birth import birth_of
from localmesh.files import folder_id, write_atomically


@dataclass(frozen=True)
class Entry:
    """A process and what tells it from another one that got the same number later."""

    name: str
    pid: int
    started: str
    program: str


class Ledger:
    """The processes of one state folder. Only the holder of the folder's lock may write.

    It says which folder that is, by its number in the file system: a moved folder has the same processes, a copy none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[int, Entry] = {}

    def note(self, name: str, pid: int, argv: Sequence[str]) -> None:
        """Remembers a process just started; raises OSError when it cannot be written down."""
        with suppress(psutil.NoSuchProcess):
            self._entries[pid] = Entry(name, pid, birth_of(pid), argv[0])
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
        processes = [asdict(entry) for entry in self._entries.values()]
        write_atomically(self._path, json.dumps({"folder": folder_id(self._path.parent), "processes": processes}))

    def _read(self) -> list[Entry]:
        try:
            written = json.loads(self._path.read_text())
            ours = written["folder"] == folder_id(self._path.parent)
            return [Entry(**entry) for entry in written["processes"]] if ours else []
        except (OSError, ValueError, TypeError, KeyError):
            return []


def _is_alive(entry: Entry) -> bool:
    try:
        process = psutil.Process(entry.pid)
        with process.oneshot():
            same_start = birth_of(entry.pid) == entry.started
            return same_start and entry.program in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
