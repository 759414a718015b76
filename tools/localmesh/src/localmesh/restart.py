"""Restarts under load: calls are sent elsewhere before anything is stopped, and one is back before the next goes."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial

import httpx

from localmesh.envoy.admin import Admin, until
from localmesh.failure import MeshError, UsageError
from localmesh.processes import Processes
from localmesh.topology import near
from localmesh.workload import Workload

NOTICED_WITHIN = 5.0
CONNECTED_WITHIN = 0.5
"""A call that was given to the instance just before may still wait for a new connection, where nobody counts it."""
CALLS_END_WITHIN = 5.0
SEEN_AGAIN_WITHIN = 15.0
INBOUND = ("inbound",)


class Restart:
    """Restarts what a name stands for."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    async def __call__(self, name: str) -> AsyncIterator[str]:
        """Restarts all instances of a service, its sidecars (`X-sidecar`), the ingress or a part; tells of each."""
        for one, restart in self._found(name):
            started = time.monotonic()
            await restart()
            yield f"{one} is back after {time.monotonic() - started:.1f} s"

    def _found(self, name: str) -> Iterable[tuple[str, Callable[[], Awaitable[None]]]]:
        processes = self._processes
        service = name.removesuffix("-sidecar")
        chosen = [each for each in processes.workloads if service in {each.service_name, each.name}]
        if chosen and name == service:
            return [
                (each.name, partial(self._workload, each, processes.services[each.name].restart)) for each in chosen
            ]
        if chosen and processes.sidecars:
            return [
                (f"{each.name}-sidecar", partial(self._workload, each, partial(self._sidecar, each))) for each in chosen
            ]
        if name == "ingress":
            return [(name, self._ingress)]
        if (part := next((part for part in processes.parts if part.name == name), None)) is not None:
            return [(name, part.unit.restart)]
        known = [unit.name for unit in processes.units]
        raise UsageError(f"there is no {name} to restart{near(name, known)} There are: {', '.join(known)}.")

    async def _workload(self, workload: Workload, restart: Callable[[], Awaitable[None]]) -> None:
        """Restarts the service of a workload, or its sidecar, when all calls go elsewhere."""
        if not self._processes.sidecars:
            await restart()
            return
        admin = Admin(workload.admin_port)
        try:
            await admin.fail_health()
            await self._seen(workload, usable=False, within=NOTICED_WITHIN)
            await asyncio.sleep(CONNECTED_WITHIN)
            await _calls_end(admin)
            await restart()
        finally:
            try:
                await admin.pass_health()
            except httpx.HTTPError as error:
                raise MeshError(f"the sidecar of {workload.name} does not answer: {error}") from error
        await self._seen(workload, usable=True, within=SEEN_AGAIN_WITHIN)

    async def _sidecar(self, workload: Workload) -> None:
        """Restarts the sidecar; before it the service where streams go on, for it alone can end them with a status.

        A stream that is cut in its midst is reset by the Envoys on its way, which its caller has to take for a fault.
        """
        admin = Admin(workload.admin_port)
        service, sidecar = (each[workload.name] for each in (self._processes.services, self._processes.sidecars))
        streams = await admin.calls(INBOUND) > 0
        if streams:
            await service.stop()
        try:
            await admin.drain()
            await sidecar.restart()
        finally:
            if streams:
                await service.restart()

    async def _seen(self, workload: Workload, *, usable: bool, within: float) -> None:
        """Returns when every Envoy that calls the workload sees it so."""
        for caller in self._processes.callers(workload):

            async def agrees(caller: Admin = caller) -> bool:
                return await caller.usable(workload.service_name, workload.inbound_port) == usable

            word = "usable" if usable else "going"
            await until(agrees, within, f"{workload.name} is not seen as {word} after {within:.0f} s")

    async def _ingress(self) -> None:
        await drain(self._processes.gate.admin_port)
        await self._processes.ingress.restart()


async def drain(admin_port: int) -> None:
    """Lets an Envoy take no new connections, and its calls end, in bounded time."""
    admin = Admin(admin_port)
    try:
        if await admin.calls():
            await admin.drain()
            await _calls_end(admin)
    except httpx.HTTPError:
        return  # it is gone already


async def _calls_end(admin: Admin) -> None:
    async def none() -> bool:
        return await admin.calls() == 0

    try:
        await until(none, CALLS_END_WITHIN, "calls go on")
    except MeshError:
        return  # streams: the one who is stopped ends them
