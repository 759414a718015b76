"""An HTTP server beside gRPC's, in the same loop and with the same orderly end."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

import uvicorn
from opentelemetry.trace import Tracer

from grpc_common.asgi import ASGIApp
from grpc_common.http_connection import Complaint, HTTPConnection
from grpc_common.http_front import HTTPFront
from grpc_common.http_limits import HTTPLimits
from grpc_common.http_settings import HTTPServerSettings, http_plaintext_refusal
from grpc_common.http_tracing import HTTPTracing
from grpc_common.listener import is_exposed, listen, listen_unix, remove_socket, tcp_address
from grpc_common.settings import SettingsError

CANCELLED_ENDS_WITHIN: Final = 1.0
"""Seconds that a request has for its last words once it was cancelled."""


class HTTPServer:
    """Serves `app`, any ASGI application, on one address; uvicorn, which here has neither signals nor logs of its own.

    An application gets whole requests of a bearable size: bodies are read before it is called. There are no WebSockets
    and no lifespan events: what it needs is open while it is served.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: HTTPServerSettings,
        *,
        lame_duck_seconds: float = 0.0,
        tracer: Tracer | None = None,
    ) -> None:
        self._settings = settings
        self._lame_duck_seconds = lame_duck_seconds
        self._front = HTTPFront(
            HTTPLimits(
                app,
                max_head=settings.max_head,
                max_body=settings.max_body,
                timeout=settings.request_timeout,
                max_concurrent=settings.max_concurrent_requests,
            )
        )
        self._outermost = HTTPTracing(self._front, tracer)  # the log line has the ids of the span
        self._server: uvicorn.Server | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._port = settings.port
        self._socket_inode = 0
        self._on_drain: list[Callable[[], None]] = []

    @property
    def url(self) -> str:
        """Where it serves: `http://host:port`, once started with the port it took, or `unix:path`."""
        path = self._settings.unix_socket
        return f"unix:{path}" if path else f"http://{tcp_address(self._settings.host, self._port)}"

    def on_drain(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the server stops: it takes no new requests, and those there are go on."""
        self._on_drain.append(callback)

    async def start(self) -> None:
        """Listen and serve. Raise ListenError where that is impossible, SettingsError where it would be unsafe."""
        settings = self._settings
        if settings.unix_socket is None and settings.plaintext is None and is_exposed(settings.host):
            raise SettingsError([f"{http_plaintext_refusal(settings.host)}."])
        if settings.unix_socket is not None:
            listening = listen_unix(settings.unix_socket)
            self._socket_inode = settings.unix_socket.stat().st_ino
        else:
            listening = listen(settings.host, settings.port)
            self._port = listening.getsockname()[1]
        config = self._config()
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[listening])
        self._server = server
        self._ticking = asyncio.create_task(server.main_loop())  # sets the Date of answers

    def _config(self) -> uvicorn.Config:
        settings = self._settings
        connection = partial(
            HTTPConnection,
            patience=settings.request_timeout,
            max_connections=settings.max_connections,
            complaint=Complaint(),
        )
        return uvicorn.Config(
            cast("Any", self._outermost),
            http=cast("type[asyncio.Protocol]", connection),  # uvicorn only calls it
            ws="none",
            lifespan="off",
            interface="asgi3",
            workers=1,  # or else it would read it from the environment
            log_config=None,
            log_level="error",  # its warnings are about clients: each of them can write as many as it likes
            access_log=False,
            proxy_headers=False,  # whom to believe about the client's address is not for uvicorn to say
            server_header=False,
            timeout_keep_alive=settings.idle_timeout,
            h11_max_incomplete_event_size=settings.max_head,
            reset_contextvars=True,
        )

    async def wait_for_termination(self) -> None:
        """Return when the server has ended; raise what broke it. May be cancelled without harm to the server."""
        if self._ticking is not None:
            await asyncio.wait([self._ticking])
            if not self._ticking.cancelled():
                self._ticking.result()

    async def stop(self, grace: float = 5.0) -> None:
        """Go on for the lame-duck time, refuse new connections, wait `grace` seconds for the requests there are.

        What is not done by then is cancelled, and a client that does not read its answer is cut off. In the lame-duck
        time clients are told to take another connection, so that no request is on its way when this one closes.
        """
        if self._server is not None:
            self._front.closing = True
            await asyncio.sleep(self._lame_duck_seconds)
            await self._end(grace)

    async def close(self) -> None:
        """Refuse new connections and cut those there are, if it is not stopped already."""
        await self._end(0)

    async def _end(self, grace: float) -> None:
        server, self._server = self._server, None
        if server is None or self._ticking is None:
            return
        server.config.timeout_graceful_shutdown = cast("int", grace)  # any number will do
        stopping = asyncio.ensure_future(server.shutdown(sockets=[]))
        await asyncio.sleep(0)  # first refuse new connections, then send those who wait for news away
        for callback in self._on_drain:
            callback()
        await stopping
        if server.server_state.tasks:
            await asyncio.wait(server.server_state.tasks, timeout=CANCELLED_ENDS_WITHIN)
        for listener in server.servers:
            listener.abort_clients()
        self._ticking.cancel()
        await asyncio.wait([self._ticking])
        remove_socket(self._settings.unix_socket, self._socket_inode)
