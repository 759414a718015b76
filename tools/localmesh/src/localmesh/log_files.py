"""Log files that do not grow for ever."""

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

LIMIT = 16 * 2**20
KEPT = 3
LOOK_EVERY = 2.0


def rotate(log: Path, limit: int = LIMIT, kept: int = KEPT) -> bool:
    """Moves what a file above `limit` bytes holds to `<name>.1`, that to `<name>.2` and so on; says whether it did.

    Copies and empties the file, since the process that writes it (to its end, always) keeps it open. What is written
    between the two is lost: a few lines of a log that is 16 MiB long.
    """
    try:
        if log.stat().st_size <= limit:
            return False
    except FileNotFoundError:
        return False
    for number in range(kept, 1, -1):
        with contextlib.suppress(FileNotFoundError):
            _numbered(log, number - 1).rename(_numbered(log, number))
    shutil.copyfile(log, _numbered(log, 1))
    os.truncate(log, 0)
    return True


async def keep_short(folder: Path) -> None:
    """Looks after all logs of a folder, for ever."""
    while True:
        await asyncio.sleep(LOOK_EVERY)
        await asyncio.to_thread(_rotate_all, folder)


def _rotate_all(folder: Path) -> None:
    for log in folder.glob("*.log"):
        with contextlib.suppress(OSError):  # a full disk is for others to report
            rotate(log)


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")
