"""What every request over HTTP meets first."""

import asyncio
import uuid
from http import HTTPStatus
from time import perf_counter
from typing import Final

import structlog

from grpc_common.asgi import ASGIApp, Message, Receive, Scope, Send
from grpc_common.correlation import KEY, chosen, request_correlation
from grpc_common.errors import INTERNAL_MESSAGE
from grpc_common.http_limits import CLOSE
from grpc_common.http_problem import send_problem
from grpc_common.shown_url import shown_path

CLIENT_GONE: Final = 499
"""The status in the log, as nginx has it, of a request whose client did not wait for one."""
FAILURE: Final = "grpc_common.failure"
"""Where, in the scope, whoever is around finds the exception that the application ended with."""
MAX_METHOD: Final = 16
"""Characters of it in the log."""


class HTTPFront:
    """Gives a request its correlation id and exactly one log line, and to an error no words but its id.

    The line has the path without the query, which may hold secrets. Once `closing` is set, each answer asks its client
    to come back on another connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.closing = False
        self._log = structlog.get_logger(component="access")
        self._errors = structlog.get_logger(component="error")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started = perf_counter()
        identity = chosen({name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]})
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])  # some name it by a member of HTTPStatus
                ours = [(KEY.encode(), identity.encode()), *([CLOSE] if self.closing else [])]
                others = [pair for pair in message.get("headers", ()) if pair[0] != KEY.encode()]
                message = {**message, "headers": [*others, *ours]}
            await send(message)

        token = request_correlation.set(identity)
        error_id = ""
        try:
            await self._app(scope, receive, answer)
        except asyncio.CancelledError:  # by the server only: the time to stop is over
            if not status:
                await send_problem(answer, HTTPStatus.SERVICE_UNAVAILABLE, "the server stops", [CLOSE])
        except Exception as error:  # noqa: BLE001
            scope[FAILURE] = error
            error_id = uuid.uuid4().hex
            self._errors.error("request failed", path=shown_path(scope["raw_path"]), error_id=error_id, exc_info=error)
            if not status:
                await send_problem(
                    answer, HTTPStatus.INTERNAL_SERVER_ERROR, f"{INTERNAL_MESSAGE} (error id {error_id})"
                )
        finally:
            self._write(scope, status or CLIENT_GONE, perf_counter() - started, error_id)
            request_correlation.reset(token)

    def _write(self, scope: Scope, status: int, seconds: float, error_id: str) -> None:
        write = self._log.error if status >= HTTPStatus.INTERNAL_SERVER_ERROR else self._log.info
        write(
            "request",
            method=scope["method"][:MAX_METHOD],
            path=shown_path(scope["raw_path"]),
            status=status,
            duration_ms=round(seconds * 1000, 3),
            correlation_id=request_correlation.get(),
            peer=peer(scope["client"]),
            **({"error_id": error_id} if error_id else {}),
        )


def peer(client: tuple[str, int] | None) -> str:
    """Return the address of a client as gRPC writes it; None: it came through a Unix socket."""
    if client is None:
        return "unix:"
    host, port = client
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
