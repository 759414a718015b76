"""Free ports for what nobody has to know by heart."""

import errno
import random
import socket

import psutil

FIRST, LAST = 18_000, 31_999
"""Below the range systems take the ports of outgoing connections from, so that none of those is in the way."""

LOOPBACK = "127.0.0.1"
_random = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """A port of the loopback address that nobody listens on and that was not given out before."""
    while True:
        port = _random.randint(FIRST, LAST)
        if port not in _given and not is_taken(port):
            _given.add(port)
            return port


def is_taken(port: int) -> bool:
    """Whether somebody listens on the port of the loopback address or of all addresses."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False


def owner(port: int) -> str:
    """Who listens on the port, such as `nginx (pid 12)`, or `another process` where the system does not tell."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid and not connection.raddr:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return "another process"
