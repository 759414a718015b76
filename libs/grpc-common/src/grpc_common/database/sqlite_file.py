"""The file of a SQLite database, which nobody but its owner may read."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

OTHERS: Final = 0o077

_told: set[Path] = set()


def keep_private(path: Path) -> None:
    """Make the file before SQLite does, which under a usual umask would let everybody read it; its `-wal` and `-shm`
    get the mode of the file. One that is there stays as it is; where others may open it, that is told once.

    Raises:
        OSError: it cannot be made.
    """
    path = path.resolve()
    if not path.exists():
        _make(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & OTHERS and path not in _told:
        _told.add(path)
        structlog.get_logger(component="database").warning(
            "others may open the database: take their rights away with chmod", path=str(path), mode=f"{mode:04o}"
        )


def _make(path: Path) -> None:
    # Never opened by its own name: to close it would end the locks that SQLite has on it in this process
    # (sqlite.org/howtocorrupt.html §2.2).
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        os.close(descriptor)
        with suppress(FileExistsError):  # another was quicker
            path.hardlink_to(unfinished)
    finally:
        Path(unfinished).unlink()
