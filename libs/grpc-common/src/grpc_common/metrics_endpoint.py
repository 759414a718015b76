"""The HTTP endpoint that Prometheus scrapes."""

import errno
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from grpc_common.listener import ListenError

PATH: Final = "/metrics"


@contextmanager
def metrics_endpoint(host: str, port: int | None, registry: CollectorRegistry = REGISTRY) -> Iterator[int | None]:
    """Serve the metrics of `registry` while the block runs; give the port, or None when there is to be no endpoint.

    The format is Prometheus' text or, with exemplars, OpenMetrics: whichever the scraper's Accept prefers.
    """
    if port is None:
        yield None
        return
    try:
        server = make_server(host, port, _only_metrics(registry), _server_class(host), _Handler)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "is taken by another process: stop it, or choose another port" if taken else f"fails: {error.strerror}"
        raise ListenError(f"the metrics port {port} on {host} {reason}.") from error
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(WSGIRequestHandler):
    timeout = 5.0  # seconds; a client that says nothing must not keep its thread

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: scrapes are no news."""


class _Server6(ThreadingWSGIServer):
    address_family = socket.AF_INET6


def _server_class(host: str) -> type[WSGIServer]:
    return _Server6 if ":" in host else ThreadingWSGIServer


def _only_metrics(registry: CollectorRegistry) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == PATH:
            answer: Iterable[bytes] = metrics(environ, start_response)
            return answer
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"the metrics are at {PATH}\n".encode()]

    return app
