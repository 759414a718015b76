"""What tells a process from another one that has or had its number."""

import sys
from pathlib import Path

import psutil

AFTER_NAME = 19
"""Of the fields of `/proc/PID/stat` behind the program's name, the one with the start in ticks since the boot."""


def birth_of(pid: int) -> str:
    """The moment a process was started, as text to be compared; raises `psutil.NoSuchProcess` where there is none.

    On Linux it is counted from the boot, which has a name of its own: neither a clock that is set nor one that begins
    anew with each boot makes two processes look alike, or one like two.
    """
    if not sys.platform.startswith("linux"):
        return str(psutil.Process(pid).create_time())
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    ticks = stat.rpartition(")")[2].split()[AFTER_NAME]
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {ticks}"
