"""The HTTP endpoint that Prometheus scrapes."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import start_http_server

from grpc_common.listener import ListenError


@contextmanager
def metrics_endpoint(host: str, port: int | None) -> Iterator[int | None]:
    """Serve the process's metrics while the block runs; give the port, or None when there is to be no endpoint."""
    if port is None:
        yield None
        return
    try:
        server, thread = start_http_server(port, host)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "is taken by another process: stop it, or choose another port" if taken else f"fails: {error.strerror}"
        raise ListenError(f"the metrics port {port} on {host} {reason}.") from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
