"""Free ports for what nobody has to know by heart."""

import errno
import fcntl
import os
import random
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

FIRST, LAST = 18_000, 31_999
"""Below the range systems take the ports of outgoing connections from, so that none of those is in the way."""

LOOPBACK = "127.0.0.1"
_random = random.SystemRandom()


class _Reservations:
    """Which ports are given out, here and in other processes of the user: between the choice of a port and the moment
    somebody listens on it, another mesh must not choose it. A lock on the byte of that number lasts as long as we do.
    """

    def __init__(self) -> None:
        self._given: set[int] = set()
        self._file = -1

    def take(self, port: int) -> bool:
        """Says whether the port is now ours alone; also where the system keeps no locks."""
        if port in self._given:
            return False
        with suppress(OSError):
            if self._file < 0:
                path = Path(tempfile.gettempdir()) / f"meshwork-ports-{os.getuid()}"
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            except (BlockingIOError, PermissionError):
                return False
        self._given.add(port)
        return True


_reservations = _Reservations()


def free_port() -> int:
    """A port of the loopback address that nobody listens on and that was not given out before, here or elsewhere."""
    while True:
        port = _random.randint(FIRST, LAST)
        if not is_taken(port) and _reservations.take(port):
            return port


def is_taken(port: int) -> bool:
    """Whether somebody listens on the port of the loopback address or of all addresses."""
    refused = _refusal(port)
    if refused is not None and refused.errno != errno.EADDRINUSE:
        raise refused
    return refused is not None


def obstacle(port: int) -> str | None:
    """Why we cannot listen on the port of the loopback address, in words that follow its number; `None`: we can."""
    match _refusal(port):
        case None:
            return None
        case OSError(errno=errno.EADDRINUSE):
            return f"is taken by {owner(port)}: stop that, or"
        case PermissionError():
            return "is one that this system gives to root only:"
        case refused:
            return f"cannot be had ({refused.strerror}):"


def _refusal(port: int) -> OSError | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            return error
    return None


def owner(port: int) -> str:
    """Who listens on the port, such as `nginx (pid 12)`, or `another process` where the system does not tell."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid and not connection.raddr:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return "another process"
