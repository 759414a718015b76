"""The life of a service process, from its settings to its exit status."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Final, NoReturn

import structlog

from grpc_common.interceptors.error import single
from grpc_common.listener import ListenError
from grpc_common.logs import configure_logs
from grpc_common.metrics_endpoint import metrics_endpoint
from grpc_common.server import GRPCServer
from grpc_common.settings import ServiceSettings, SettingsError, load_settings

type Register = Callable[[Any], None]
"""Adds a service's servicers to anything that takes them as `grpc.aio.Server` does."""

type Build[S] = Callable[[S], AbstractAsyncContextManager[Register]]
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
    configure_logs(settings.log_level)
    sys.exit(asyncio.run(_Process(settings).live(build)))


class _Process[S: ServiceSettings]:
    def __init__(self, settings: S) -> None:
        self._settings = settings
        self._log = structlog.get_logger(component="run")
        self._stop = asyncio.Event()
        self._serving = False

    async def live(self, build: Build[S]) -> int:
        """Return the exit status."""
        self._listen_for_signals()
        workers = ThreadPoolExecutor(self._settings.grpc.max_workers, thread_name_prefix="worker")
        asyncio.get_running_loop().set_default_executor(workers)  # what asyncio.to_thread uses
        try:
            async with build(self._settings) as register:
                with metrics_endpoint(self._settings.metrics_host, self._settings.metrics_port) as metrics_port:
                    await self._serve(register, metrics_port)
        except asyncio.CancelledError:
            if not self._stop.is_set():
                raise
            self._log.info("stopped before it served")
        except Exception as raised:  # noqa: BLE001
            self._report(raised)
            return EXIT_FAILED
        finally:
            sys.stderr.flush()
        return 0

    async def _serve(self, register: Register, metrics_port: int | None) -> None:
        settings = self._settings.grpc
        if not settings.enabled:
            self._log.info("started without gRPC", metrics_port=metrics_port)
            self._serving = True
            await self._stop.wait()
            return
        server = GRPCServer.from_settings(settings)
        register(server)
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
                sys.stderr.flush()
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
