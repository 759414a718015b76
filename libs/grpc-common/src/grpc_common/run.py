"""The life of a service process, from its settings to its exit status."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import structlog

from grpc_common.application import Application
from grpc_common.chain import Chain
from grpc_common.default_chain import default_interceptors
from grpc_common.health.check import DependencyCheck
from grpc_common.health.loop_lag import LoopLag
from grpc_common.health.servicer import HealthServicer
from grpc_common.interceptors.error import single
from grpc_common.issuer_keys import open_verifier
from grpc_common.last_resort import LastResort
from grpc_common.listener import ListenError
from grpc_common.log_sink import LogSink
from grpc_common.logs import configure_logs
from grpc_common.metrics_endpoint import metrics_endpoint
from grpc_common.policy import PolicyError
from grpc_common.registration import has_no_policy
from grpc_common.revocations import Revocations
from grpc_common.server import GRPCServer
from grpc_common.settings import ServiceSettings, SettingsError, load_settings
from grpc_common.token_verifier import TokenVerifier
from grpc_common.traces import Tracing, configure_tracing

if TYPE_CHECKING:
    from grpc_common.http_server import HTTPServer

type Build[S] = Callable[[S], AbstractAsyncContextManager[Application]]
"""Makes the parts of a service for as long as the context lasts."""

EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
END_WITHIN: Final = 10.0
"""Seconds that a process has beyond those in which it lets its calls end; it takes a fraction of one."""


def run[S: ServiceSettings](build: Build[S], settings_type: type[S]) -> NoReturn:
    """Serve until SIGTERM or SIGINT, then exit: 0 after a clean stop, 1 on failure, 2 on unusable settings.

    A second signal ends the process at once with 128 + its number. One that has not ended END_WITHIN seconds after its
    calls should have ended is ended, with 1 and a line in the log that says what it waited for.
    """
    try:
        settings = load_settings(settings_type)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_SETTINGS)
    sink = configure_logs(settings.log_level)
    service = settings_type.model_config.get("env_prefix", "").strip("_").lower().replace("_", "-")
    tracing = configure_tracing(service or "service", ratio=settings.trace_ratio, endpoint=settings.otlp_endpoint)
    status = asyncio.run(_Process(settings, tracing, sink).live(build))
    tracing.close()
    sys.exit(status)


class Server(Protocol):
    """What there is one of for gRPC and one for HTTP."""

    def on_drain(self, callback: Callable[[], None]) -> None:
        """Have `callback` called once no new calls are taken."""
        ...

    async def start(self) -> None:
        """Listen and serve."""
        ...

    async def wait_for_termination(self) -> None:
        """Return when the server has ended; raise what broke it."""
        ...

    async def stop(self, grace: float) -> None:
        """End in order; what is not done after `grace` seconds is cut off."""
        ...


class _Process[S: ServiceSettings]:
    def __init__(self, settings: S, tracing: Tracing, sink: LogSink) -> None:
        self._settings = settings
        self._tracing = tracing
        self._sink = sink
        self._log = structlog.get_logger(component="run")
        self._stop = asyncio.Event()
        self._serving = False
        self._last_resort = LastResort(sink, EXIT_FAILED)

    async def live(self, build: Build[S]) -> int:
        """Return the exit status."""
        self._listen_for_signals()
        if not self._settings.grpc.enabled:  # a GRPCServer brings its own
            workers = ThreadPoolExecutor(self._settings.grpc.max_workers, thread_name_prefix="worker")
            asyncio.get_running_loop().set_default_executor(workers)
        try:
            async with build(self._settings) as application:
                with metrics_endpoint(self._settings.metrics_host, self._settings.metrics_port) as metrics_port:
                    await self._serve(application, metrics_port)
        except asyncio.CancelledError:
            if not self._stop.is_set():
                raise
            self._log.info("stopped before it served")
        except Exception as raised:  # noqa: BLE001
            self._report(raised)
            return EXIT_FAILED
        finally:
            self._end_within(END_WITHIN)
        return 0

    async def _serve(self, application: Application, metrics_port: int | None) -> None:
        async with self._grpc_server(application) as grpc_server:
            http_server = self._http_server(application)
            servers: list[Server] = [each for each in (http_server, grpc_server) if each is not None]
            if servers:
                servers[0].on_drain(application.end_streams)
            try:
                for server in servers:
                    await server.start()
                self._serving = True
                self._tell_where(grpc_server, http_server, metrics_port)
                await self._until_stop(servers)
                await self._stop_all(servers)
            finally:
                if http_server is not None:
                    await http_server.close()  # must not go on without gRPC's, nor without what it needs

    @asynccontextmanager
    async def _grpc_server(self, application: Application) -> AsyncIterator[GRPCServer | None]:
        if not self._settings.grpc.enabled:
            yield None
            return
        async with self._verifier(application) as (verifier, keys):
            revocations = Revocations() if verifier is None else verifier.revocations
            if verifier is None:
                self._log.warning("no issuer of tokens is set: whoever reaches this address may call")
            async with self._hearing(revocations, application) as hearing:
                chain = Chain(
                    default_interceptors(
                        max_concurrent_rpcs=self._settings.grpc.max_concurrent_rpcs,
                        jwt_service=verifier,
                        revocations=revocations,
                        tracer=self._tracing.tracer,
                        log_payloads=self._settings.log_payloads,
                        behind_mesh=self._settings.grpc.plaintext == "behind-mesh",
                    )
                )
                health = HealthServicer([*application.dependencies, *keys, *hearing, LoopLag().check()])
                server = GRPCServer.from_settings(
                    self._settings.grpc, application.chain(chain), health, application.without_policy
                )
                application.register(server)
                yield server

    @asynccontextmanager
    async def _hearing(
        self, revocations: Revocations, application: Application
    ) -> AsyncIterator[Sequence[DependencyCheck]]:
        url = self._settings.revocations_url.get_secret_value()
        if not url:
            yield ()
            return
        from grpc_common.revocation_stream import following  # who does not need it, needs none of its packages

        async with following(url, revocations, application.restore_revocations) as check:
            yield [check]

    def _verifier(
        self, application: Application
    ) -> AbstractAsyncContextManager[tuple[TokenVerifier | None, Sequence[DependencyCheck]]]:
        if application.verifier is not None:
            return nullcontext((application.verifier, ()))
        return open_verifier(self._settings.auth)

    def _http_server(self, application: Application) -> "HTTPServer | None":
        if not self._settings.http.enabled:
            return None
        if application.http is None:
            raise SettingsError(["this service has nothing to serve over HTTP: leave HTTP__ENABLED unset"])
        from grpc_common.http_server import HTTPServer  # without HTTP, a service needs none of its packages

        return HTTPServer(
            application.http,
            self._settings.http,
            lame_duck_seconds=self._settings.grpc.lame_duck_seconds,
            tracer=self._tracing.tracer,
        )

    def _tell_where(
        self, grpc_server: GRPCServer | None, http_server: "HTTPServer | None", metrics_port: int | None
    ) -> None:
        where: dict[str, Any] = {"metrics_port": metrics_port}
        if http_server is not None:
            where["http"] = http_server.url
        if grpc_server is None:
            self._log.info("started without gRPC", **where)
        else:
            services = grpc_server.service_names
            if bare := [name for name in services if has_no_policy(name)]:
                where["without_policy"] = bare
            self._log.info("serving", target=grpc_server.target, services=services, **where)

    async def _until_stop(self, servers: Sequence[Server]) -> None:
        ended = [asyncio.ensure_future(server.wait_for_termination()) for server in servers]
        asked = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({*ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            asked.cancel()
            for each in ended:
                if each.done():
                    await each  # raises what broke the server
            raise RuntimeError("a server ended by itself")
        for each in ended:
            each.cancel()
        await asyncio.gather(*ended, return_exceptions=True)

    async def _stop_all(self, servers: Sequence[Server]) -> None:
        settings = self._settings.grpc
        self._log.info("stopping", lame_duck_seconds=settings.lame_duck_seconds, drain_seconds=settings.drain_seconds)
        async with asyncio.TaskGroup() as stopping:
            for server in servers:
                stopping.create_task(server.stop(settings.drain_seconds))
        self._log.info("stopped")

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # this is a coroutine

        def arrived(number: int) -> None:
            if self._stop.is_set():
                self._sink.flush()
                os._exit(128 + number)
            self._log.info("asked to stop", signal=signal.Signals(number).name)
            self._stop.set()
            self._end_within(self._settings.grpc.lame_duck_seconds + self._settings.grpc.drain_seconds + END_WITHIN)
            if not self._serving:
                task.cancel()

        for number in SIGNALS:
            loop.add_signal_handler(number, arrived, number)

    def _end_within(self, seconds: float) -> None:
        self._last_resort.end_within(seconds, asyncio.get_running_loop())

    def _report(self, raised: Exception) -> None:
        error = single(raised)
        # A stranger's error before serving says all in its sentence; one in the midst of work needs its traceback.
        verbose = self._settings.log_level == "debug" or (self._serving and not isinstance(error, ListenError))
        reason = (
            str(error)
            if isinstance(error, ListenError | SettingsError | PolicyError)
            else f"{type(error).__name__}: {error}"
        )
        event = "failed" if self._serving else "cannot start"
        self._log.error(event, reason=reason, **({"exc_info": raised} if verbose else {}))
