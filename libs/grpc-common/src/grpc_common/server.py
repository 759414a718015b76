"""A gRPC server with the chain, health, reflection and an orderly end."""

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal, Self

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2_grpc

from grpc_common import metadata_size
from grpc_common.call import Handler
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
from grpc_common.reflection import add_reflection
from grpc_common.registration import check_policies
from grpc_common.settings import GRPCServerSettings, SettingsError, TLSSettings, plaintext_refusal
from grpc_common.tls import CertificateFiles
from grpc_common.validation.validator import check_constraints

# Without it core shares a taken port with whoever has it, and each gets some of the calls.
OPTIONS: Final = (("grpc.so_reuseport", 0), *KEEPALIVE.server_options(), *metadata_size.OPTIONS)


class GRPCServer:
    """Serves what is registered on one address.

    `interceptors` replaces the default chain, and then they are all there is, in their order. Where no
    ConcurrencyLimitInterceptor is among them, `max_concurrent_rpcs` is held inside of the last one, right before the
    handlers; where one is, its own limit counts. Without an ErrorInterceptor, exceptions are grpc.aio's business.

    Every method must have a policy, but for those of the services, by full name, that `without_policy` names.
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
    ) -> None:
        self.host: Final = host
        self.port = port
        """The port asked for; once started, the one taken."""
        self.unix_socket: Final = unix_socket
        self.service_names: Final[list[str]] = []
        self._interceptors = _limited(interceptors, max_concurrent_rpcs)
        self._workers = ThreadPoolExecutor(max_workers, thread_name_prefix="grpc-worker")
        self._plaintext = plaintext
        self._tls = tls
        self._reflection_enabled = reflection_enabled
        self._lame_duck_seconds = lame_duck_seconds
        self._health: Final = (health or HealthServicer()) if health_check_enabled else None
        self._generic: list[grpc.GenericRpcHandler] = []
        self._registered: dict[str, dict[str, Handler]] = {}
        self._server: aio.Server | None = None
        self._ended: asyncio.Future[Any] | None = None
        self._socket_inode = 0
        self._without_policy = without_policy
        self._on_drain: list[Callable[[], None]] = []

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
        )

    @property
    def target(self) -> str:
        """The address as a gRPC client on this machine dials it."""
        return f"unix:{self.unix_socket}" if self.unix_socket else tcp_address(self.host, self.port)

    def add_servicer(self, servicer: Any, add_func: Callable[[Any, Any], None]) -> None:
        """Register `servicer` with its generated `add_XServicer_to_server`. Raise PolicyError as the others do."""
        add_func(servicer, self)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Take handlers as `grpc.aio.Server` does, so that generated code can be handed this server.

        Raises:
            PolicyError: a method has no policy and its service is not named in `without_policy`, or a bad one.
        """
        for handler in generic_rpc_handlers:
            if isinstance(handler, grpc.ServiceRpcHandler):
                check_policies(handler.service_name(), self._without_policy)
        self._generic += generic_rpc_handlers
        for handler in generic_rpc_handlers:
            if isinstance(handler, grpc.ServiceRpcHandler):
                self._add_name(handler.service_name())

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Handler]) -> None:
        """Take handlers as `grpc.aio.Server` does. Raise PolicyError where a method has none, or a bad one."""
        check_policies(service_name, self._without_policy)
        self._registered[service_name] = dict(method_handlers)
        self._add_name(service_name)

    def on_drain(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the server stops: it takes no new calls any more, and those there are go on."""
        self._on_drain.append(callback)

    def _add_name(self, name: str) -> None:
        if name not in self.service_names:
            self.service_names.append(name)

    async def start(self) -> None:
        """Listen and serve. Raise ListenError where that is impossible, SettingsError where it would be unsafe."""
        if self.unix_socket is None and self._tls is None and self._plaintext is None and is_exposed(self.host):
            raise SettingsError([f"{plaintext_refusal(self.host)}."])
        if self._health is not None:
            self.add_servicer(self._health, health_pb2_grpc.add_HealthServicer_to_server)
        check_constraints(self.service_names)
        if self._reflection_enabled:
            add_reflection(self.service_names, self)
        self._server = server = aio.server(
            migration_thread_pool=self._workers,
            interceptors=self._interceptors,
            options=OPTIONS,
        )
        server.add_generic_rpc_handlers(tuple(self._generic))
        for name, handlers in self._registered.items():
            server.add_registered_method_handlers(name, handlers)
        self._listen(server)
        self._tell_where()
        if self._health is not None:
            self._health.add(*self.service_names)
        await server.start()
        if self._health is not None:
            await self._health.start()
        self._ended = asyncio.ensure_future(server.wait_for_termination())

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

        What is not done by then is cancelled.
        """
        server = self._server
        if server is None:
            return
        if self._health is not None:
            await self._health.enter_graceful_shutdown()
        await asyncio.sleep(self._lame_duck_seconds)
        stopping = asyncio.ensure_future(server.stop(grace))
        await asyncio.sleep(0)  # first refuse new calls, then send watchers away, or they come straight back
        if self._health is not None:
            await self._health.stop()
        for callback in self._on_drain:
            callback()
        await stopping
        self._workers.shutdown(wait=False)
        remove_socket(self.unix_socket, self._socket_inode)


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
