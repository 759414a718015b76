"""All the processes of a mesh: the parts, the services, their sidecars, the ingress."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from grpc_common import revocation_stream
from localmesh import ports, probes, service
from localmesh.certificates import Identity
from localmesh.envoy import program, tls
from localmesh.envoy.admin import Admin
from localmesh.envoy.ingress import Gate, ingress
from localmesh.envoy.sidecar import sidecar
from localmesh.ledger import Ledger
from localmesh.options import Options
from localmesh.parts.openbao import OpenBao
from localmesh.parts.postgres import Postgres
from localmesh.parts.valkey import Valkey
from localmesh.process import Command
from localmesh.renewal import Certificates
from localmesh.signing import SigningRoles
from localmesh.state import StateFolder
from localmesh.topology import JWKS_PATH, Topology
from localmesh.unit import Prepare, Probe, Unit
from localmesh.workload import Workload, callees, reached, workloads


class Processes:
    """What runs, not yet started; `traces_port` is where spans are sent."""

    def __init__(
        self, topology: Topology, state: StateFolder, ledger: Ledger, options: Options, *, port: int, traces_port: int
    ) -> None:
        self._topology = topology
        self._state = state
        self._ledger = ledger
        self._traces_port = traces_port
        self._asked = options.environment
        instances = options.instances(topology)
        self.workloads = tuple(workloads(topology, instances, sockets=state.sockets(), certificates=state.certificates))
        self.gate = Gate(
            port=port,
            admin_port=ports.free_port(),
            traces_port=traces_port,
            server=Identity("ingress-server", state.certificates / "ingress-server"),
            client=Identity("ingress", state.certificates / "ingress"),
            sidecars=options.sidecars,
        )
        self.postgres: Postgres | None = None
        if any(each.service.database for each in self.workloads):
            self.postgres = Postgres(state.postgres, keep=options.keep, log=state.log("postgres"), ledger=ledger)
        users = [each.service_name for each in self.firsts]
        self.valkey = Valkey(
            state.valkey,
            users=users,
            readers={revocation_stream.KEY: users},
            writers={revocation_stream.KEY: (topology.issuer,)},
            log=state.log("valkey"),
            ledger=ledger,
        )
        self.openbao = OpenBao(state.openbao, state.log("openbao"), ledger)
        self.certificates = Certificates(
            self.openbao,
            topology,
            self.workloads,
            server=self.gate.server,
            client=self.gate.client,
            ca=state.ca,
        )
        self.signing = SigningRoles(self.openbao, self.workloads, state.secrets / "wrapped")
        for each in self.workloads:
            service.check(each, self._given(each))
        self.services = {each.name: self._service_unit(each) for each in self.workloads}
        self.sidecars = {each.name: self._sidecar_unit(each) for each in self.workloads if options.sidecars}
        self.ingress = self._unit("ingress", partial(self._envoy, "ingress"), self._probe_ingress)

    @property
    def parts(self) -> tuple[Postgres | OpenBao | Valkey, ...]:
        """What the services stand on."""
        return tuple(part for part in (self.postgres, self.openbao, self.valkey) if part is not None)

    @property
    def units(self) -> tuple[Unit, ...]:
        """All of them, in the order in which one needs another."""
        parts = (part.unit for part in self.parts)
        return (*parts, *self.services.values(), *self.sidecars.values(), self.ingress)

    @property
    def firsts(self) -> Iterable[Workload]:
        """One workload of each service, for what its replicas share."""
        return (each for each in self.workloads if each.name == each.service_name)

    @property
    def envoys(self) -> tuple[Admin, ...]:
        """The admin interfaces of the ingress and of all sidecars."""
        return (Admin(self.gate.admin_port), *(Admin(each.admin_port) for each in self.workloads if self.sidecars))

    def callers(self, workload: Workload) -> Iterable[Admin]:
        """The Envoys that send calls to a workload."""
        yield Admin(self.gate.admin_port)
        for each in self.workloads:
            if workload.service_name in reached(self._topology, each, self.workloads):
                yield Admin(each.admin_port)

    def migrate(self, workload: Workload, module: str) -> Command:
        """The command that brings the database of a service up to date."""
        return service.migrate(workload, module, self._given(workload))

    def write_envoy_configurations(self) -> None:
        """Writes what the Envoys read when they start; the certificates must be there."""
        for identity in self.certificates.identities:
            tls.write_secrets(identity)
        for workload in self.workloads:
            made = sidecar(self._topology, workload, self.workloads, self._traces_port)
            program.write(made, self._envoy_config(f"{workload.name}-sidecar"))
        program.write(ingress(self._topology, self.gate, self.workloads), self._envoy_config("ingress"))

    def _service_unit(self, workload: Workload) -> Unit:
        command = partial(service.serve, workload, self._given(workload))
        probe = partial(probes.service_serves, workload.socket, workload.service.grpc[0])
        prepare = partial(self.signing.hand_over, workload) if workload.service.transit else None
        return self._unit(workload.name, command, probe, prepare)

    def _given(self, workload: Workload) -> service.Given:
        sidecars = self.gate.sidecars
        called = callees(workload, self.workloads)
        return service.Given(
            secrets=self._state.secrets / workload.service_name,
            keys=self._keys(workload),
            signing=service.Signing(self.openbao.address, self.signing.file(workload)),
            tokens=self._topology.tokens,
            traces_port=self._traces_port,
            targets={
                name: workload.outbound if sidecars else group[0].socket for name, group in called.items() if group
            },
            asked=self._topology.environment_of(workload.service, self._asked),
        )

    def _keys(self, workload: Workload) -> service.Keys | None:
        name = self._topology.issuer
        if name == workload.service_name:
            return None
        first = next(each for each in self.firsts if each.service_name == name)
        return service.Keys(f"http://{name}{JWKS_PATH}", workload.outbound if self.gate.sidecars else first.http_socket)

    def _sidecar_unit(self, workload: Workload) -> Unit:
        name = f"{workload.name}-sidecar"
        return self._unit(name, partial(self._envoy, name), partial(probes.envoy_is_live, workload.admin_port))

    def _unit(self, name: str, command: partial[Command], probe: Probe, prepare: Prepare | None = None) -> Unit:
        return Unit(name, command, probe, self._state.log(name), self._ledger, prepare)

    async def _probe_ingress(self) -> None:
        await probes.envoy_is_live(self.gate.admin_port)
        for each in self.firsts:
            authority = f"{each.service_name}.localhost"
            await probes.ingress_serves(self.gate.port, self.certificates.bundle, authority, each.service.grpc[0])

    def _envoy(self, name: str) -> Command:
        return program.command(name, self._envoy_config(name))

    def _envoy_config(self, name: str) -> Path:
        return self._state.envoy / f"{name}.json"
