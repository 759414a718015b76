"""The life of a service process, from its settings to its exit status."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Final, NoReturn

import structlog

from grpc_common.application import Application
from grpc_common.chain import Chain
from grpc_common.default_chain import default_interceptors
from grpc_common.health.loop_lag import LoopLag
from grpc_common.health.servicer import HealthServicer
from grpc_common.interceptors.error import single
from grpc_common.issuer_keys import open_verifier
from grpc_common.listener import ListenError
from grpc_common.log_sink import LogSink
from grpc_common.logs import configure_logs
from grpc_common.metrics_endpoint import metrics_endpoint
from grpc_common.revocations import Revocations
from grpc_common.server import GRPCServer
from grpc_common.settings import ServiceSettings, SettingsError, load_settings
from grpc_common.token_verifier import TokenVerifier
from grpc_common.traces import Tracing, configure_tracing

type Build[S] = Callable[[S], AbstractAsyncContextManager[Application]]
"""Makes the parts of a service for as long as the context lasts."""

EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def run[S: ServiceSettings](build: Build[S], settings_type: type[S]) -> NoReturn:
    """Serve until SIGTERM or SIGINT, then exit: 0 after a clean stop, 1 on failure, 2 on unusable settings.

    A second signal ends the process at once with 128 + its number.
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


class _Process[S: ServiceSettings]:
    def __init__(self, settings: S, tracing: Tracing, sink: LogSink) -> None:
        self._settings = settings
        self._tracing = tracing
        self._sink = sink
        self._log = structlog.get_logger(component="run")
        self._stop = asyncio.Event()
        self._serving = False

    async def live(self, build: Build[S]) -> int:
        """Return the exit status."""
        self._listen_for_signals()
        workers = ThreadPoolExecutor(self._settings.grpc.max_workers, thread_name_prefix="worker")
        asyncio.get_running_loop().set_default_executor(workers)  # what asyncio.to_thread uses
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
        return 0

    async def _serve(self, application: Application, metrics_port: int | None) -> None:
        if not self._settings.grpc.enabled:
            self._log.info("started without gRPC", metrics_port=metrics_port)
            self._serving = True
            await self._stop.wait()
            return
        async with self._verifier(application) as verifier:
            revocations = Revocations() if verifier is None else verifier.revocations
            if verifier is None:
                self._log.warning("no issuer of tokens is set: whoever reaches this address may call")
            chain = default_interceptors(
                max_concurrent_rpcs=self._settings.grpc.max_concurrent_rpcs,
                jwt_service=verifier,
                revocations=revocations,
                tracer=self._tracing.tracer,
                log_payloads=self._settings.log_payloads,
            )
            health = HealthServicer([*application.dependencies, LoopLag().check()])
            server = GRPCServer.from_settings(self._settings.grpc, [Chain(chain)], health)
            application.register(server)
            server.on_drain(application.end_streams)
            await self._serve_until_stop(server, metrics_port)

    def _verifier(self, application: Application) -> AbstractAsyncContextManager[TokenVerifier | None]:
        if application.verifier is not None:
            return nullcontext(application.verifier)
        return open_verifier(self._settings.auth)

    async def _serve_until_stop(self, server: GRPCServer, metrics_port: int | None) -> None:
        settings = self._settings.grpc
        await server.start()
        self._serving = True
        self._log.info("serving", target=server.target, services=server.service_names, metrics_port=metrics_port)
        await self._until_stop(server)
        self._log.info("stopping", lame_duck_seconds=settings.lame_duck_seconds, drain_seconds=settings.drain_seconds)
        await server.stop(settings.drain_seconds)
        self._log.info("stopped")

    async def _until_stop(self, server: GRPCServer) -> None:
        ended = asyncio.ensure_future(server.wait_for_termination())
        asked = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            asked.cancel()
            await ended  # raises what broke the server
            raise RuntimeError("the server ended by itself")
        ended.cancel()
        with suppress(asyncio.CancelledError):
            await ended

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
            if not self._serving:
                task.cancel()

        for number in SIGNALS:
            loop.add_signal_handler(number, arrived, number)

    def _report(self, raised: Exception) -> None:
        error = single(raised)
        # A stranger's error before serving says all in its sentence; one in the midst of work needs its traceback.
        verbose = self._settings.log_level == "debug" or (self._serving and not isinstance(error, ListenError))
        reason = str(error) if isinstance(error, ListenError | SettingsError) else f"{type(error).__name__}: {error}"
        event = "failed" if self._serving else "cannot start"
        self._log.error(event, reason=reason, **({"exc_info": raised} if verbose else {}))
