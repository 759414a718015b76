"""Where a server listens, and why it cannot."""

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
ANY: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  # only compared
MAX_SOCKET_PATH: Final = 107  # bytes, sun_path of unix(7)
BACKLOG: Final = 1024
"""Connections that may wait to be accepted."""


class ListenError(Exception):
    """An address the server cannot listen on; the message says which, why, and what to do."""


def is_exposed(host: str) -> bool:
    """Say whether `host` is reachable from other machines."""
    return host not in LOOPBACK


def named(host: str) -> str:
    """Return what a server that listens on `host` is called: where that is any address, this machine's name."""
    return socket.gethostname() if host in ANY else host


def tcp_address(host: str, port: int) -> str:
    """Return the address as gRPC writes it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_port(host: str, port: int) -> None:
    """Raise ListenError when nothing can listen on `host` and `port`; core would say no more than "failed to bind"."""
    _bound(host, port).close()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` and `port`, 0 being a free one; raise ListenError where that fails."""
    bound = _bound(host, port)
    bound.listen(BACKLOG)
    return bound


def listen_unix(path: Path) -> socket.socket:
    """Return a socket that listens at `path`, for this user only; raise ListenError where that is impossible."""
    clear_socket(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # nobody else may connect, not even for a moment
    try:
        listening.bind(os.fspath(path))
    except OSError as error:
        listening.close()
        raise ListenError(f"cannot listen on the socket {path}: {error.strerror}.") from error
    finally:
        os.umask(before)
    listening.listen(BACKLOG)
    return listening


def remove_socket(path: Path | None, inode: int) -> None:
    """Remove the Unix socket at `path` if it has that inode: another process may have made its own there since."""
    if path is not None and path.exists() and path.stat().st_ino == inode:
        path.unlink()


def _bound(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ListenError(f"{host} is not an address of this machine: {error.strerror}") from error
    family, kind, protocol, _, address = found[0]
    bound = socket.socket(family, kind, protocol)
    # As core does it: connections of an earlier process that linger are no hindrance, a listener is.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise ListenError(f"{_reason(error, host, port)}.") from error
    return bound


def _reason(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} on {host} is taken by another process: stop it, or choose another port"
        case errno.EADDRNOTAVAIL:
            return f"{host} is not an address of this machine"
        case errno.EACCES:
            return f"this user may not listen on port {port}: choose one above 1023"
        case _:
            return f"cannot listen on port {port} of {host}: {error.strerror}"


def clear_socket(path: Path) -> None:
    """Make room for a Unix socket at `path`: remove the file a dead process left, refuse a living one's."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise ListenError(f"the socket path {path} is longer than the {MAX_SOCKET_PATH} bytes a Unix socket may have.")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ListenError(f"cannot make a socket in {path.parent}: {error.strerror}.") from error
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"{path} exists and is not a socket: remove it, or choose another path.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise ListenError(f"the socket {path} cannot be taken over: {error.strerror or error}.") from error
    raise ListenError(f"the socket {path} is in use by another process: stop it, or choose another path.")
