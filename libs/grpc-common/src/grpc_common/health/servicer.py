"""The health of a server, as grpc.health.v1 tells it."""

import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from time import monotonic
from typing import Any, Self

from grpc import StatusCode
from grpc_health.v1.health_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)
from grpc_health.v1.health_pb2_grpc import HealthServicer as GeneratedHealthServicer

from grpc_common.health.check import DependencyCheck, Probe, checks_of
from grpc_common.health.monitor import Clock, HealthMonitor
from grpc_common.health.report import Health, HealthReport, StateChange
from grpc_common.health.statuses import OVERALL, SERVING, ServingStatus, Statuses, TooManyWatchersError


class HealthServicer(GeneratedHealthServicer):  # type: ignore[misc]  # generated without types
    """grpc.health.v1 Check, Watch and List (gRFC A90): statuses that hold only while every critical dependency is up.

    Until each critical dependency has answered well once, everything is NOT_SERVING; without critical dependencies it
    is SERVING at once. No call probes anything: each is answered from what the monitor found last, and an answer too
    old counts as a failure. Of dependencies, reasons and errors callers learn nothing.

    `async with` it, or start and stop it. At shutdown: `enter_graceful_shutdown()` first, which tells every watcher
    NOT_SERVING; after the lame-duck pause `stop()`, which ends the watches that a draining server would wait for.
    """

    def __init__(
        self,
        dependency_checks: Mapping[str, Probe | DependencyCheck] | Iterable[DependencyCheck] = (),
        *,
        services: Iterable[str] = (),
        on_change: Callable[[StateChange], None] | None = None,
        max_watchers: int = 1000,
        max_listed: int = 100,
        clock: Clock = monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Serve the health of `services` and of the whole server, "".

        More than `max_watchers` calls of Watch at a time, and List of more than `max_listed` services, the whole server
        among them, end as RESOURCE_EXHAUSTED. `on_change` hears of each dependency that comes up or goes down, on the
        event loop: it must be short.
        """
        self._statuses = Statuses(max_watchers=max_watchers)
        self._max_listed = max_listed
        self._monitor = HealthMonitor(
            checks_of(dependency_checks), clock=clock, jitter=jitter, on_health=self._follow, on_change=on_change
        )
        self._follow(self._monitor.health)
        for service in (OVERALL, *services):
            self._statuses.set(service, SERVING)

    async def Check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:  # noqa: N802
        """Return the status of a service; "" is the whole server. Errors: NOT_FOUND for a service nobody has set."""
        self._monitor.refresh()
        status = self._statuses.get(request.service, None)
        if status is None:
            await context.abort(StatusCode.NOT_FOUND, "this server has no service of that name")
        return HealthCheckResponse(status=status)

    async def Watch(self, request: HealthCheckRequest, context: Any) -> AsyncIterator[HealthCheckResponse]:  # noqa: N802
        """Send the status of a service now and each time it has changed; SERVICE_UNKNOWN while nobody has set it.

        A client slower than the changes gets the latest. Errors: RESOURCE_EXHAUSTED with too many watchers; UNAVAILABLE
        when the server stops, so that the client looks for another one.
        """
        self._monitor.refresh()
        try:
            watcher = self._statuses.watch(request.service)
        except TooManyWatchersError:
            await context.abort(StatusCode.RESOURCE_EXHAUSTED, "too many calls watch the health of this server")
            return
        try:
            while (status := await watcher.next()) is not None:
                yield HealthCheckResponse(status=status)
        finally:
            watcher.close()
        await context.abort(StatusCode.UNAVAILABLE, "this server is stopping")

    async def List(self, request: HealthListRequest, context: Any) -> HealthListResponse:  # noqa: ARG002, N802
        """Return the status of every service (gRFC A90). Errors: RESOURCE_EXHAUSTED when there are too many."""
        self._monitor.refresh()
        if len(self._statuses) > self._max_listed:
            await context.abort(StatusCode.RESOURCE_EXHAUSTED, f"this server has more than {self._max_listed} services")
        statuses = self._statuses.all().items()
        return HealthListResponse(statuses={name: HealthCheckResponse(status=status) for name, status in statuses})

    def add(self, *services: str, needs_dependencies: bool = True) -> None:
        """Make services known, as SERVING; those without `needs_dependencies` stay so whatever the dependencies do.

        A liveness probe wants the latter: restarting a process does not bring its database back.
        """
        for service in services:
            self._statuses.set(service, SERVING, needs_dependencies=needs_dependencies)

    def remove(self, service: str) -> None:
        """Make a service unknown again."""
        self._statuses.remove(service)

    async def set(self, service: str, status: ServingStatus) -> None:
        """Set a service, new or known, to UNKNOWN, SERVING or NOT_SERVING.

        While a critical dependency is not up it is NOT_SERVING anyway. Ignored once the server shuts down. Raises
        ValueError for SERVICE_UNKNOWN: remove the service instead.
        """
        self._statuses.set(service, status)

    async def enter_graceful_shutdown(self) -> None:
        """Make every service NOT_SERVING for ever and tell every watcher."""
        self._statuses.shut_down()

    def report(self) -> HealthReport:
        """Return what is known of each dependency at this moment, whether or not the server shuts down."""
        return self._monitor.report()

    async def start(self) -> None:
        """Begin to probe the dependencies."""
        await self._monitor.start()

    async def stop(self) -> None:
        """Make everything NOT_SERVING, end every watch with that, and stop probing; bounded by a second."""
        self._statuses.close()
        await self._monitor.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    def _follow(self, health: Health) -> None:
        self._statuses.dependencies(up=health is not Health.NOT_SERVING)
