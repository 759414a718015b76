"""The mesh itself: everything in the order in which one thing needs another, and the reverse at the end."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import hvac

from localmesh import ports, probes, service
from localmesh.certificates import Identity
from localmesh.envoy import program, tls
from localmesh.envoy.ingress import Gate, ingress
from localmesh.envoy.sidecar import sidecar
from localmesh.failure import MeshError, UsageError
from localmesh.files import write_atomically
from localmesh.issuer import Issuer
from localmesh.ledger import Ledger
from localmesh.parts.openbao import OpenBao
from localmesh.parts.postgres import Postgres
from localmesh.pki import LEAF_SECONDS, Authority
from localmesh.process import Command, run_to_end
from localmesh.state import StateFolder
from localmesh.status import IngressStatus, PartStatus, ServiceStatus, SidecarStatus, Status
from localmesh.topology import Topology, near
from localmesh.unit import Unit
from localmesh.workload import Workload, workloads

RENEWAL_CHECK = 30.0
STEP_WITHIN = 60.0

type Report = Callable[[str, float], None]
"""Told the name of a step that is done and how many seconds it took."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run a topology."""

    port: int | None = None
    """The ingress port; `None` for the topology's."""
    replicas: Mapping[str, int] = field(default_factory=dict)
    sidecars: bool = True
    keep: bool = True
    """Whether the data is to be there the next time."""


class Mesh:
    """A mesh in a state folder whose lock is held; `async with` starts it, watches over it and stops it."""

    def __init__(
        self, topology: Topology, state: StateFolder, ledger: Ledger, options: Options, report: Report
    ) -> None:
        for name in options.replicas:
            if name not in topology.services:
                raise UsageError(f"there is no service {name} to replicate{near(name, topology.services)}")
        self.topology = topology
        self.state = state
        self.issuer = Issuer(state.issuer, topology.tokens)
        self.port = options.port or topology.ingress.port
        self._options = options
        self._report = report
        self._ledger = ledger
        self._workloads = tuple(
            workloads(topology, options.replicas, sockets=state.sockets(), certificates=state.certificates)
        )
        self._gate = Gate(
            port=self.port,
            admin_port=ports.free_port(),
            server=Identity("ingress-server", state.certificates / "ingress-server"),
            client=Identity("ingress", state.certificates / "ingress"),
            jwks=self.issuer.jwks,
            sidecars=options.sidecars,
        )
        self._postgres: Postgres | None = None
        if any(each.database for each in topology.services.values()):
            self._postgres = Postgres(state.postgres, keep=options.keep, log=state.log("postgres"), ledger=ledger)
        self._openbao = OpenBao(state.openbao, state.log("openbao"), ledger)
        self._services = {each.name: self._service_unit(each) for each in self._workloads}
        self._sidecars = {each.name: self._sidecar_unit(each) for each in self._workloads if options.sidecars}
        self._ingress = Unit(
            "ingress", partial(self._envoy, "ingress"), self._probe_ingress, state.log("ingress"), ledger
        )
        self._authority: Authority | None = None
        self._issued = 0.0
        self._renewal: asyncio.Task[None] | None = None
        self._complete = False

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stops everything, last started first, each in bounded time."""
        self._complete = False
        if self._renewal is not None:
            self._renewal.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._renewal
        parts: list[Awaitable[None]] = [self._openbao.unit.stop()]
        if self._postgres is not None:
            parts.append(self._postgres.stop())
        await self._ingress.stop()
        await asyncio.gather(*(unit.stop() for unit in self._sidecars.values()))
        await asyncio.gather(*(unit.stop() for unit in self._services.values()))
        await asyncio.gather(*parts)
        self.state.leave()

    @property
    def root_certificate(self) -> bytes:
        """The root that vouches for everybody in the mesh (PEM); empty before there is one."""
        return b"" if self._authority is None else self._authority.root_certificate.encode()

    def status(self) -> Status:
        """How everything is now."""
        return Status(
            ready=self._complete and all(unit.ready for unit in self._units()),
            ingress=IngressStatus(
                pid=self._ingress.pid,
                grpc=f"localhost:{self.port}",
                rest=f"https://localhost:{self.port}",
                ca=str(self.state.ca),
            ),
            services=tuple(map(self._service_status, self._workloads)),
            parts=tuple(self._part_statuses()),
        )

    async def _start(self) -> None:
        if ports.is_taken(self.port):
            raise MeshError(
                f"port {self.port} for the ingress is taken by {ports.owner(self.port)}: stop that, or choose another "
                "port with --port"
            )
        for unit in self._units():
            unit.on_change = self._write_status
        self._write_status()
        async with _one_failure(), asyncio.TaskGroup() as group:
            group.create_task(self._start_postgres())
            group.create_task(self._start_openbao())
        await self._step("schema", self._migrate())
        self._write_envoy_configurations()
        await self._all(self._services.values())
        await self._all(self._sidecars.values())
        await self._step("ingress", self._ingress.start())
        for unit in self._units():
            unit.watch()
        self._renewal = asyncio.create_task(self._renew_certificates(), name="renew certificates")
        self._complete = True
        self._write_status()

    async def _start_postgres(self) -> None:
        if self._postgres is None:
            return
        postgres = self._postgres
        await self._step("postgres", _in_turn(postgres.prepare, postgres.unit.start))
        for workload in self._firsts():
            if workload.service.database:
                url = await postgres.create_database(workload.service_name.replace("-", "_"))
                service.write_database_url(workload, self.state.secrets / workload.service_name, url)

    async def _start_openbao(self) -> None:
        self._openbao.prepare()
        await self._step("openbao", self._openbao.unit.start())
        await self._step("certificates", asyncio.to_thread(self._issue_certificates))

    async def _migrate(self) -> None:
        for workload in self._firsts():
            if module := workload.service.migrate:
                command = service.migrate(workload, module, self._given(workload))
                await run_to_end(command, self.state.log(command.name), self._ledger, within=STEP_WITHIN)

    async def _all(self, units: Iterable[Unit]) -> None:
        async with _one_failure(), asyncio.TaskGroup() as group:
            for unit in units:
                group.create_task(self._step(unit.name, unit.start()))

    async def _step(self, name: str, work: Awaitable[None]) -> None:
        started = time.monotonic()
        await work
        self._report(name, time.monotonic() - started)

    def _issue_certificates(self) -> None:
        try:
            self._issue_all()
        except (hvac.exceptions.VaultError, OSError) as error:
            raise MeshError(f"OpenBao issues no certificates: {error}") from error
        self._issued = time.time()

    def _issue_all(self) -> None:
        if self._authority is None:
            self._authority = Authority(self._openbao.client(), self.topology)
            write_atomically(self.state.ca, self._authority.root_certificate)
        authority = self._authority
        for workload in self._workloads:
            authority.issue_workload(workload.identity, workload.service.account)
        authority.issue_workload(self._gate.client, self.topology.ingress.account)
        names = ["localhost", *(f"{name}.localhost" for name in self.topology.services)]
        authority.issue_server(self._gate.server, names, [ports.LOOPBACK])

    async def _renew_certificates(self) -> None:
        """At half their life. Looks at the clock on the wall: a laptop may have slept."""
        while True:
            await asyncio.sleep(RENEWAL_CHECK)
            if time.time() - self._issued > LEAF_SECONDS / 2:
                with contextlib.suppress(Exception):  # OpenBao may be between two lives: the next round tries again
                    await asyncio.to_thread(self._issue_certificates)

    def _write_envoy_configurations(self) -> None:
        for identity in (self._gate.server, self._gate.client, *(each.identity for each in self._workloads)):
            tls.write_secrets(identity)
        for workload in self._workloads:
            program.write(sidecar(self.topology, workload), self._envoy_config(f"{workload.name}-sidecar"))
        program.write(ingress(self.topology, self._gate, self._workloads), self._envoy_config("ingress"))

    def _firsts(self) -> Iterable[Workload]:
        """One workload of each service, for what its replicas share."""
        return (each for each in self._workloads if each.name == each.service_name)

    def _units(self) -> Iterable[Unit]:
        if self._postgres is not None:
            yield self._postgres.unit
        yield self._openbao.unit
        yield from self._services.values()
        yield from self._sidecars.values()
        yield self._ingress

    def _service_unit(self, workload: Workload) -> Unit:
        command = partial(service.serve, workload, self._given(workload))
        probe = partial(probes.service_serves, workload.socket, workload.service.grpc[0])
        return Unit(workload.name, command, probe, self.state.log(workload.name), self._ledger)

    def _given(self, workload: Workload) -> service.Given:
        secrets = self.state.secrets / workload.service_name
        return service.Given(secrets=secrets, jwks=self.issuer.jwks, tokens=self.topology.tokens)

    def _sidecar_unit(self, workload: Workload) -> Unit:
        name = f"{workload.name}-sidecar"
        probe = partial(probes.envoy_is_live, workload.admin_port)
        return Unit(name, partial(self._envoy, name), probe, self.state.log(name), self._ledger)

    async def _probe_ingress(self) -> None:
        await probes.envoy_is_live(self._gate.admin_port)
        for name, each in self.topology.services.items():
            await probes.ingress_serves(self.port, self.root_certificate, f"{name}.localhost", each.grpc[0])

    def _envoy(self, name: str) -> Command:
        return program.command(name, self._envoy_config(name))

    def _envoy_config(self, name: str) -> Path:
        return self.state.envoy / f"{name}.json"

    def _service_status(self, workload: Workload) -> ServiceStatus:
        unit = self._services[workload.name]
        side = self._sidecars.get(workload.name)
        return ServiceStatus(
            name=workload.name,
            ready=unit.ready and (side is None or side.ready),
            pid=unit.pid,
            grpc=f"unix:{workload.socket}",
            http=None,
            metrics=f"http://{ports.LOOPBACK}:{workload.metrics_port}/metrics",
            sidecar=None
            if side is None
            else SidecarStatus(
                pid=side.pid,
                inbound=f"{ports.LOOPBACK}:{workload.inbound_port}",
                admin=f"{ports.LOOPBACK}:{workload.admin_port}",
            ),
            restarts=unit.restarts,
        )

    def _part_statuses(self) -> Iterable[PartStatus]:
        for part in (self._postgres, self._openbao):
            if part is not None:
                unit = part.unit
                yield PartStatus(
                    name=part.name, ready=unit.ready, pid=unit.pid, address=part.address, version=part.version
                )

    def _write_status(self) -> None:
        write_atomically(self.state.status, self.status().to_json())


async def _in_turn(*works: Callable[[], Awaitable[None]]) -> None:
    for work in works:
        await work()


@contextlib.asynccontextmanager
async def _one_failure() -> AsyncIterator[None]:
    """Raises the first failure of a task group instead of the group of them."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
