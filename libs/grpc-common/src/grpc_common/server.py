"""A gRPC server with the chain, health, reflection and an orderly end."""

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, Self

import grpc
import structlog
from grpc import aio
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from grpc_common import metadata_size
from grpc_common.access_line import HEALTH
from grpc_common.call import Handler
from grpc_common.calls import Calls, current_calls
from grpc_common.chain import Chain, Interceptor
from grpc_common.default_chain import default_interceptors
from grpc_common.health.servicer import HealthServicer
from grpc_common.interceptors.concurrency import ConcurrencyLimitInterceptor, LastLimitInterceptor
from grpc_common.keepalive import KEEPALIVE
from grpc_common.listener import (
    ListenError,
    check_port,
    clear_socket,
    is_exposed,
    named,
    remove_socket,
    tcp_address,
)
from grpc_common.loop_watch import LoopWatch
from grpc_common.policy import policies_of
from grpc_common.reflection import add_reflection
from grpc_common.registration import check_generic, check_registered
from grpc_common.settings import GRPCServerSettings, SettingsError, TLSSettings, plaintext_refusal
from grpc_common.tls import CertificateFiles
from grpc_common.unread import holders
from grpc_common.validation.validator import check_constraints

# Without it core shares a taken port with whoever has it, and each gets some of the calls.
OPTIONS: Final = (("grpc.so_reuseport", 0), *KEEPALIVE.server_options(), *metadata_size.OPTIONS)

STREAMS_BESIDE: Final = 100
"""How many calls more than twice its limit a server takes on one connection (HTTP/2's concurrent streams)."""
CONNECTION_AGE: Final = 1800.0
"""Seconds after which a client that connects directly is to connect anew: it finds servers that are new by then, and
none that takes no replies holds a connection for ever. A sidecar sees to both by itself.
"""
CONNECTION_GRACE: Final = 60.0
"""Seconds for the calls of such a connection to end, besides the longest timeout of all policies."""
LOOK_EVERY: Final = 0.25
"""Seconds between two looks at the calls of a server that stops, and how long a request may be on its way then."""
TAKEN_WITHIN: Final = 5.0
"""Seconds that callers have to take their last replies, once all handlers of a server that stops have ended."""
CLOSED_WITHIN: Final = 1.0
"""Seconds that they have to close their connections once no call is left."""


class GRPCServer:
    """Serves what is registered on one address.

    `interceptors` replaces the default chain, and then they are all there is, in their order. Where no
    ConcurrencyLimitInterceptor is among them, `max_concurrent_rpcs` is held inside of the last one, right before the
    handlers; where one is, its own limit counts. Without an ErrorInterceptor, exceptions are grpc.aio's business.

    `max_workers` is how many threads `asyncio.to_thread` has for what blocks, from the start on.

    Every method must have a policy, but for those of the services, by full name, that `without_policy` names.
    After `max_connection_age_seconds`, a tenth more or less, clients are told to connect anew (gRFC A9); unless given,
    that is half an hour, and never on a Unix socket or behind a mesh.

    Without `tls` it listens on loopback or a Unix socket only, unless `plaintext` says that a sidecar encrypts.
    """

    def __init__(
        self,
        host: str = "0.0.0.0",  # noqa: S104  # the specification's default, refused at start without `plaintext`
        port: int = 50051,
        interceptors: Chain | Sequence[aio.ServerInterceptor] | None = None,
        max_workers: int = 10,
        max_concurrent_rpcs: int = 100,
        *,
        unix_socket: Path | None = None,
        plaintext: Literal["behind-mesh"] | None = None,
        tls: TLSSettings | None = None,
        reflection_enabled: bool = True,
        health_check_enabled: bool = True,
        lame_duck_seconds: float = 0.0,
        health: HealthServicer | None = None,
        without_policy: Collection[str] = (),
        max_connection_age_seconds: float | None = None,
    ) -> None:
        self.host: Final = host
        self.port = port
        """The port asked for; once started, the one taken."""
        self.unix_socket: Final = unix_socket
        self.service_names: Final[list[str]] = []
        self._interceptors = _limited(interceptors, max_concurrent_rpcs)
        self._workers = ThreadPoolExecutor(max_workers, thread_name_prefix="worker")
        self._plaintext = plaintext
        self._tls = tls
        self._reflection_enabled = reflection_enabled
        self._lame_duck_seconds = lame_duck_seconds
        self._health: Final = (health or HealthServicer()) if health_check_enabled else None
        self._generic: list[grpc.GenericRpcHandler] = []
        self._registered: dict[str, dict[str, Handler]] = {}
        self._server: aio.Server | None = None
        self._ended: asyncio.Future[Any] | None = None
        self._watch: LoopWatch | None = None
        self._socket_inode = 0
        self._without_policy = without_policy
        self._on_drain: list[Callable[[], None]] = []
        if max_connection_age_seconds is None and unix_socket is None and plaintext is None:
            max_connection_age_seconds = CONNECTION_AGE
        self._connection_age = max_connection_age_seconds
        # Beyond the limit of calls, so that they are refused and do not wait; health checks may come as well.
        self._max_streams = 2 * max_concurrent_rpcs + STREAMS_BESIDE
        self._calls = Calls()
        self._stopping: asyncio.Future[None] | None = None
        self._hurried = asyncio.Event()

    @classmethod
    def from_settings(
        cls,
        settings: GRPCServerSettings,
        interceptors: Chain | Sequence[aio.ServerInterceptor] | None = None,
        health: HealthServicer | None = None,
        without_policy: Collection[str] = (),
    ) -> Self:
        """Make the server that `settings` describe."""
        return cls(
            settings.host,
            settings.port,
            interceptors,
            settings.max_workers,
            settings.max_concurrent_rpcs,
            unix_socket=settings.unix_socket,
            plaintext=settings.plaintext,
            tls=settings.tls,
            reflection_enabled=settings.reflection_enabled,
            health_check_enabled=settings.health_check_enabled,
            lame_duck_seconds=settings.lame_duck_seconds,
            health=health,
            without_policy=without_policy,
            max_connection_age_seconds=settings.max_connection_age_seconds,
        )

    @property
    def target(self) -> str:
        """The address as a gRPC client on this machine dials it."""
        return f"unix:{self.unix_socket}" if self.unix_socket else tcp_address(self.host, self.port)

    def add_servicer(self, servicer: Any, add_func: Callable[[Any, Any], None]) -> None:
        """Register `servicer` with its generated `add_XServicer_to_server`.

        Raise PolicyError and HandlerError as the others do.
        """
        add_func(servicer, self)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Take handlers as `grpc.aio.Server` does, so that generated code can be handed this server.

        Raises:
            PolicyError: a method has no policy and its service is not named in `without_policy`, or a bad one.
            HandlerError: a handler is no `async def`, or not of the kind that its method is.
            RuntimeError: the server has been started; it would never call them.
        """
        self._check_open()
        check_generic(generic_rpc_handlers, self._without_policy)
        self._generic += generic_rpc_handlers
        for handler in generic_rpc_handlers:
            if isinstance(handler, grpc.ServiceRpcHandler):
                self._add_name(handler.service_name())

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Handler]) -> None:
        """Take handlers as `grpc.aio.Server` does. Raise PolicyError and HandlerError as the others do."""
        self._check_open()
        check_registered(service_name, method_handlers, self._without_policy)
        self._registered[service_name] = dict(method_handlers)
        self._add_name(service_name)

    def on_drain(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the server stops: it takes no new calls any more, and those there are go on."""
        self._on_drain.append(callback)

    def _check_open(self) -> None:
        if self._server is not None:
            raise RuntimeError("this server has been started already: register all services before that")

    def _add_name(self, name: str) -> None:
        if name not in self.service_names:
            self.service_names.append(name)

    async def start(self) -> None:
        """Listen and serve.

        Raises:
            ListenError: where it is told to listen that is impossible; it may be started again.
            SettingsError: it would be unsafe.
            RuntimeError: it has been started before. A server that was stopped stays so: make another one.
        """
        if self._server is not None:
            raise RuntimeError("this server has been started already; a server starts once, so make another one")
        if self.unix_socket is None and self._tls is None and self._plaintext is None and is_exposed(self.host):
            raise SettingsError([f"{plaintext_refusal(self.host)}."])
        self._complete()
        server = aio.server(
            interceptors=self._interceptors,
            options=(*OPTIONS, ("grpc.max_concurrent_streams", self._max_streams), *self._aging()),
        )
        server.add_generic_rpc_handlers(tuple(self._generic))
        for name, handlers in self._registered.items():
            server.add_registered_method_handlers(name, handlers)
        self._listen(server)
        self._server = server
        asyncio.get_running_loop().set_default_executor(self._workers)  # the loop ends it when it is closed itself
        self._tell_where()
        if self._health is not None:
            self._health.add(*self.service_names)
        token = current_calls.set(self._calls)  # for the tasks of all its calls
        try:
            await server.start()
        finally:
            current_calls.reset(token)
        if self._health is not None:
            await self._health.start()
        self._watch = LoopWatch.of_running_loop()
        self._watch.start()
        self._ended = asyncio.ensure_future(server.wait_for_termination())

    def _aging(self) -> tuple[tuple[str, int], ...]:
        if self._connection_age is None:
            return ()
        # No call that keeps to its policy is cut.
        methods = (policy for name in self.service_names for policy in policies_of(name))
        grace = max((policy.timeout for policy in methods), default=0.0) + CONNECTION_GRACE
        return (
            ("grpc.max_connection_age_ms", round(self._connection_age * 1000)),
            ("grpc.max_connection_age_grace_ms", round(grace * 1000)),
        )

    def _complete(self) -> None:
        if self._health is not None and HEALTH not in self.service_names:
            self.add_servicer(self._health, health_pb2_grpc.add_HealthServicer_to_server)
        check_constraints(self.service_names)
        if self._reflection_enabled and reflection.SERVICE_NAME not in self.service_names:
            add_reflection(self.service_names, self)

    def _listen(self, server: aio.Server) -> None:
        if self.unix_socket is not None:
            clear_socket(self.unix_socket)
            before = os.umask(0o177)  # nobody else may connect, not even for a moment
            try:
                server.add_insecure_port(f"unix:{self.unix_socket}")
            except RuntimeError as error:
                raise ListenError(f"cannot listen on the socket {self.unix_socket}.") from error
            finally:
                os.umask(before)
            self._socket_inode = self.unix_socket.stat().st_ino
            return
        check_port(self.host, self.port)
        address = tcp_address(self.host, self.port)
        try:
            if self._tls is None:
                self.port = server.add_insecure_port(address)
            else:
                self.port = server.add_secure_port(address, CertificateFiles(self._tls).credentials())
        except RuntimeError as error:
            raise ListenError(f"cannot listen on port {self.port} of {self.host}.") from error

    def _tell_where(self) -> None:
        where = (str(self.unix_socket), None) if self.unix_socket else (named(self.host), self.port)
        for interceptor in self._interceptors:
            if isinstance(interceptor, Chain | Interceptor):
                interceptor.served_at(*where)

    async def wait_for_termination(self) -> None:
        """Return when the server has ended; raise what broke it. May be cancelled without harm to the server."""
        if self._ended is not None:
            await asyncio.shield(self._ended)

    async def stop(self, grace: float = 5.0) -> None:
        """Report NOT_SERVING, go on for the lame-duck time, refuse new calls, wait `grace` seconds for those there are.

        What is not done by then is cancelled; calls whose request has not come are refused at once. Asked again while
        it stops, it waits for no lame duck any more, and for the shorter of both times; all who asked wait for the end.
        """
        if self._server is None:
            return
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._stop(self._server, grace))
        else:
            self._hurried.set()
            if not self._stopping.done():
                await self._server.stop(grace)
        await asyncio.shield(self._stopping)

    async def _stop(self, server: aio.Server, grace: float) -> None:
        if self._health is not None:
            await self._health.enter_graceful_shutdown()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._lame_duck_seconds):
                await self._hurried.wait()
        stopping = asyncio.ensure_future(server.stop(grace))
        await asyncio.sleep(0)  # first refuse new calls, then send watchers away, or they come straight back
        if self._health is not None:
            await self._health.stop()
        for callback in self._on_drain:
            try:
                callback()
            except Exception:  # noqa: BLE001  # the others are to be told, too, and the server is to end
                structlog.get_logger(component="server").exception("drain callback failed")
        await self._drain(server, stopping)
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        remove_socket(self.unix_socket, self._socket_inode)

    async def _drain(self, server: aio.Server, stopping: asyncio.Future[Any]) -> None:
        # Only those calls are known that come to a chain of ours, before anybody else can have answered them.
        knows_all = bool(self._interceptors) and isinstance(self._interceptors[0], Chain | Interceptor)
        loop = asyncio.get_running_loop()
        last = loop.time()
        while not (await asyncio.wait({stopping}, timeout=LOOK_EVERY))[0]:
            self._calls.refuse_waiting(LOOK_EVERY)
            held = bool(holders())
            if self._calls.running or (held and not knows_all):
                last = loop.time()
            elif loop.time() - last > (TAKEN_WITHIN if held else CLOSED_WITHIN):
                await server.stop(None)  # what is left are replies that nobody takes, or silent connections
        await stopping


def _limited(given: Chain | Sequence[aio.ServerInterceptor] | None, limit: int) -> list[aio.ServerInterceptor]:
    # grpc.aio has a limit of its own, which lets more handlers run than it says and refuses health checks, too.
    if given is None:
        return [Chain(default_interceptors(max_concurrent_rpcs=limit))]
    interceptors: list[aio.ServerInterceptor] = [given] if isinstance(given, Chain) else list(given)
    inside = (part for each in interceptors for part in (each.interceptors if isinstance(each, Chain) else (each,)))
    if any(isinstance(part, ConcurrencyLimitInterceptor) for part in inside):
        return interceptors
    # Inside of all that the caller chose, which so sees what is refused: nothing comes before the first of a list.
    return [*interceptors, LastLimitInterceptor(limit)]
