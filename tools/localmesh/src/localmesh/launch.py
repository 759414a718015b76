"""Becomes another program that does not outlive the process that started it.

Run as a script, with nothing but the standard library: it leaves root when told to, asks Linux for a signal at the
death of its parent, and turns into the program. A `preexec_fn` could do the same, but is not safe beside threads.
"""

import ctypes  # before we leave root, who may be the only one to read the standard library
import os
import sys

PR_SET_PDEATHSIG = 1


def leave_root(uid: int, gid: int) -> None:
    """Becomes another user for good."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def die_with_parent(parent: int, signal_number: int) -> None:
    """Asks for `signal_number` at the death of `parent`; leaves at once if it is dead already. Linux only."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit("the process that wanted this one is gone")


def main(arguments: list[str]) -> None:
    """Takes PARENT SIGNAL UID:GID|- PROGRAM ARGUMENT..., and does not return."""
    parent, signal_number, account, program, *rest = arguments
    if account != "-":
        uid, gid = account.split(":")
        leave_root(int(uid), int(gid))
    die_with_parent(int(parent), int(signal_number))  # a change of user would clear it
    try:
        os.execv(program, [program, *rest])  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.exit(f"cannot run {program}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
