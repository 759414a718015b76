"""The status of each service of a server, and those who watch it."""

import asyncio
from typing import Final

from grpc_health.v1.health_pb2 import HealthCheckResponse

type ServingStatus = HealthCheckResponse.ServingStatus

OVERALL: Final = ""
"""The name that stands for the whole server."""

SERVING: Final = HealthCheckResponse.SERVING
NOT_SERVING: Final = HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN: Final = HealthCheckResponse.SERVICE_UNKNOWN
_SETTABLE: Final = frozenset({HealthCheckResponse.UNKNOWN, SERVING, NOT_SERVING})


class TooManyWatchersError(Exception):
    """As many calls watch as may."""


class Watcher:
    """One who wants to know a service's status now and whenever it changes; keeps no queue, the latest status wins."""

    def __init__(self, statuses: "Statuses", service: str) -> None:
        self.service: Final = service
        self._statuses = statuses
        self._told: ServingStatus | None = None
        self._woken = asyncio.Event()

    async def next(self) -> ServingStatus | None:
        """Return the status once it is another than was returned last; None when there will be no more."""
        while True:
            self._woken.clear()
            status = self._statuses.get(self.service, SERVICE_UNKNOWN)
            if status != self._told:
                self._told = status
                return status
            if self._statuses.closed:
                return None
            await self._woken.wait()

    def wake(self) -> None:
        """Have another look."""
        self._woken.set()

    def close(self) -> None:
        """Stop watching; may be called again."""
        self._statuses.forget(self)


class Statuses:
    """What each service has been set to, and what holds: NOT_SERVING without the dependencies, and from shutdown on."""

    def __init__(self, *, max_watchers: int) -> None:
        self.closed = False
        self._max_watchers = max_watchers
        self._set: dict[str, tuple[ServingStatus, bool]] = {}
        self._watchers: dict[str, set[Watcher]] = {}
        self._watching = 0
        self._dependencies_up = True
        self._shutting_down = False

    def __len__(self) -> int:
        return len(self._set)

    @property
    def watching(self) -> int:
        """The number of watchers."""
        return self._watching

    def get[Default](self, service: str, default: Default) -> "ServingStatus | Default":
        """Return the status of `service`, or `default` when nobody has set it."""
        known = self._set.get(service)
        if known is None:
            return default
        status, needs_dependencies = known
        if self._shutting_down or (needs_dependencies and not self._dependencies_up):
            return NOT_SERVING
        return status

    def all(self) -> dict[str, ServingStatus]:
        """Return the status of every service that has one."""
        return {service: self.get(service, SERVICE_UNKNOWN) for service in self._set}

    def set(self, service: str, status: ServingStatus, *, needs_dependencies: bool | None = None) -> None:
        """Set a service, new or known, to UNKNOWN, SERVING or NOT_SERVING; ignored once the server shuts down."""
        if status not in _SETTABLE:
            raise ValueError(f"a service cannot be set to {status!r}; to make it unknown, remove it")
        if self._shutting_down:
            return
        if needs_dependencies is None:
            _, needs_dependencies = self._set.get(service, (status, True))
        self._set[service] = (status, needs_dependencies)
        self._wake(service)

    def remove(self, service: str) -> None:
        """Make a service unknown; ignored once the server shuts down."""
        if not self._shutting_down and self._set.pop(service, None) is not None:
            self._wake(service)

    def dependencies(self, *, up: bool) -> None:
        """Say whether all critical dependencies are up."""
        self._dependencies_up = up
        self._wake_all()

    def shut_down(self) -> None:
        """Make every service NOT_SERVING, for ever."""
        self._shutting_down = True
        self._wake_all()

    def close(self) -> None:
        """Shut down, and end every watch, those to come too, once it has told that."""
        self.closed = True
        self.shut_down()

    def watch(self, service: str) -> Watcher:
        """Return a new watcher of `service`, known or not; whoever asks for it closes it."""
        if self._watching >= self._max_watchers:
            raise TooManyWatchersError
        watcher = Watcher(self, service)
        self._watchers.setdefault(service, set()).add(watcher)
        self._watching += 1
        return watcher

    def forget(self, watcher: Watcher) -> None:
        """Let `watcher` go."""
        watchers = self._watchers.get(watcher.service, set())
        if watcher not in watchers:
            return
        self._watching -= 1
        watchers.remove(watcher)
        if not watchers:
            del self._watchers[watcher.service]

    def _wake(self, service: str) -> None:
        for watcher in self._watchers.get(service, ()):
            watcher.wake()

    def _wake_all(self) -> None:
        for service in self._watchers:
            self._wake(service)
