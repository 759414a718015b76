"""The mesh itself: everything in the order in which one thing needs another, and the reverse at the end."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any

from localmesh import ports, service
from localmesh.control import Control
from localmesh.development_users import DevelopmentUsers
from localmesh.failure import MeshError
from localmesh.files import keep_secret, private_folder
from localmesh.ledger import Ledger
from localmesh.lifetime import Lifetime
from localmesh.log_files import keep_short
from localmesh.mesh_status import status_of
from localmesh.options import Options
from localmesh.parts.openbao import OpenBao
from localmesh.process import run_to_end
from localmesh.processes import Processes
from localmesh.restart import Restart, drain
from localmesh.spans.receiver import Receiver
from localmesh.spans.store import Spans
from localmesh.state import StateFolder
from localmesh.status import Status
from localmesh.status_files import StatusFiles
from localmesh.topology import BOOTSTRAP_SECRET, Topology
from localmesh.unit import Unit
from localmesh.workload import Workload

STEP_WITHIN = 60.0
FOLDER_EVERY = 1.0
"""Seconds between two looks at the state folder."""

type Report = Callable[[str, float], None]
"""Told the name of a step that is done and how many seconds it took."""


class Mesh(Lifetime):
    """A mesh in a state folder whose lock is held; `async with` starts it, watches over it and stops it."""

    def __init__(
        self, topology: Topology, state: StateFolder, ledger: Ledger, options: Options, report: Report
    ) -> None:
        self.port = options.port or topology.ingress.port
        self.topology = topology = topology.at(self.port)
        self.state = state
        self.spans = Spans()
        self._report = report
        self._ledger = ledger
        self._receiver = Receiver(self.spans, ports.free_port(), options.otlp)
        self._processes = Processes(topology, state, ledger, options, port=self.port, traces_port=self._receiver.port)
        self._certificates = self._processes.certificates
        restart = Restart(self._processes)
        bootstrap_secret = state.kept_secret(topology.issuer, BOOTSTRAP_SECRET)
        self.users = DevelopmentUsers(
            state.kept_secrets / "users", bootstrap_secret, port=self.port, roots=lambda: self.root_certificate
        )
        self._control = Control(state.control, self.status, restart, self._processes, self.spans, self.users)
        self._status_files = StatusFiles(state, self.status, self._processes.units)
        self._chores: list[asyncio.Task[None]] = []
        self._complete = False

    async def stop(self) -> None:
        """Stops everything, last started first, each in bounded time; calls under way have a moment to end.

        What does not stop keeps nothing else from it, and is raised at the end.
        """
        complete, self._complete = self._complete, False
        processes = self._processes
        async with contextlib.AsyncExitStack() as last_first:
            last_first.callback(self.state.leave)
            last_first.push_async_callback(self._receiver.stop)
            for layer in (processes.parts, processes.services.values(), processes.sidecars.values()):
                last_first.push_async_callback(_stop_all, tuple(layer))
            last_first.push_async_callback(processes.ingress.stop)
            if complete:
                last_first.push_async_callback(drain, processes.gate.admin_port)
            last_first.push_async_callback(self._end_chores)
            last_first.push_async_callback(self._control.stop)

    @property
    def openbao(self) -> OpenBao:
        """The server with the keys."""
        return self._processes.openbao

    def straight_to(self, service: str) -> str:
        """Where a service takes calls that come by no ingress and no sidecar (a gRPC target)."""
        first = next(each for each in self._processes.firsts if each.service_name == service)
        return f"unix:{first.socket}"

    @property
    def root_certificate(self) -> bytes:
        """The roots that vouch for everybody in the mesh (PEM); empty before there is one."""
        return self._certificates.bundle

    def status(self) -> Status:
        """How everything is now."""
        return status_of(self._processes, self.state, complete=self._complete)

    async def start(self) -> None:
        """Starts everything and returns when it is ready; raises MeshError saying what is not, and why."""
        if (obstacle := ports.obstacle(self.port)) is not None:
            raise MeshError(f"port {self.port} for the ingress {obstacle} choose another port with --port")
        processes = self._processes
        for unit in processes.units:
            unit.on_change = self._status_files.write
        self._status_files.write()
        await self._receiver.start()
        async with _one_failure(), asyncio.TaskGroup() as group:
            group.create_task(self._start_postgres())
            group.create_task(self._start_openbao())
            group.create_task(self._start_valkey())
        # Certificates may be short-lived, and a start on a busy machine long.
        chores = (
            self._certificates.keep_fresh(),
            processes.signing.keep_fresh(),
            keep_short(self.state.logs),
            self._status_files.catch_up(),
            self._end_without_folder(),
        )
        self._chores = [_chore(each) for each in chores]
        await self._step("schema", self._migrate())
        processes.write_envoy_configurations()
        # A service is ready when it has the keys to verify tokens with, which it fetches through its sidecar.
        await self._all([*processes.services.values(), *processes.sidecars.values()])
        await self._step("ingress", processes.ingress.start())
        await self._step("users", self.users.seed())
        for unit in processes.units:
            unit.watch()
        await self._control.start()
        self._complete = True
        self._status_files.write()

    async def _end_without_folder(self) -> None:
        """Nobody could find us any more, to stop us or to ask; certificates would not be renewed."""
        while not self.state.is_lost():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(FOLDER_EVERY)
        sys.stderr.write(f"mesh: the state folder {self.state.root} was removed or moved: stopping\n")
        os.kill(os.getpid(), signal.SIGTERM)

    async def _start_postgres(self) -> None:
        postgres = self._processes.postgres
        if postgres is None:
            return
        if not postgres.has_data:  # later would be too late for a start that is cut short: the next one would keep them
            shutil.rmtree(self.state.kept_secrets, ignore_errors=True)
        await self._step("postgres", postgres.start())
        private_folder(self.state.kept_secrets)
        for workload in self._processes.firsts:
            if workload.service.database:
                url = await postgres.create_database(workload.service_name.replace("-", "_"))
                self._write_setting(workload, "DATABASE_URL", url)
            for name in workload.service.secrets:
                kept = self.state.kept_secret(workload.service_name, name)
                self._write_setting(workload, name, keep_secret(kept))

    async def _start_openbao(self) -> None:
        self._processes.openbao.prepare()
        await self._step("openbao", self._processes.openbao.unit.start())
        await self._step("certificates", self._certificates.renew())
        role_ids = await self._processes.signing.set_up()
        for workload in self._processes.firsts:
            if role_id := role_ids.get(workload.service_name):
                self._write_setting(workload, "VAULT_ROLE_ID", role_id)

    async def _start_valkey(self) -> None:
        valkey = self._processes.valkey
        valkey.prepare()
        await self._step("valkey", valkey.unit.start())
        for workload in self._processes.firsts:
            url = valkey.url(workload.service_name)
            self._write_setting(workload, "REVOCATIONS_URL", url)
            if workload.service.cache:
                self._write_setting(workload, "CACHE_URL", url)

    def _write_setting(self, workload: Workload, setting: str, value: str) -> None:
        service.write_setting(workload, self.state.secrets / workload.service_name, setting, value)

    async def _migrate(self) -> None:
        commands = [
            self._processes.migrate(workload, module)
            for workload in self._processes.firsts
            if (module := workload.service.migrate) is not None
        ]
        async with _one_failure(), asyncio.TaskGroup() as group:
            for each in commands:
                group.create_task(run_to_end(each, self.state.log(each.name), self._ledger, within=STEP_WITHIN))

    async def _all(self, units: Iterable[Unit]) -> None:
        async with _one_failure(), asyncio.TaskGroup() as group:
            for unit in units:
                group.create_task(self._step(unit.name, unit.start()))

    async def _end_chores(self) -> None:
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)

    async def _step(self, name: str, work: Awaitable[None]) -> None:
        started = time.monotonic()
        await work
        self._report(name, time.monotonic() - started)


def _chore(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.create_task(work)


async def _stop_all(these: Iterable[Unit | Lifetime]) -> None:
    """Stops them side by side; raises the first failure when all have been tried."""
    ended = await asyncio.gather(*(each.stop() for each in these), return_exceptions=True)
    for failure in filter(None, ended):
        raise failure


@contextlib.asynccontextmanager
async def _one_failure() -> AsyncIterator[None]:
    """Raises the first failure of a task group instead of the group of them."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
