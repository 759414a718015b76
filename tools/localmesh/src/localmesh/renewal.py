"""The certificates of everybody in the mesh: issued at the start, renewed at half their life, or when told to."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import hvac

from localmesh import ports
from localmesh.certificates import Identity
from localmesh.envoy.admin import Admin, serials, until
from localmesh.failure import MeshError
from localmesh.files import write_atomically
from localmesh.parts.openbao import OpenBao
from localmesh.pki import Authority
from localmesh.topology import Topology
from localmesh.workload import Workload

LOOK_EVERY_AT_MOST = 30.0
HEARD_WITHIN = 20.0
CLIENTS_HEAR_WITHIN = 1.0
"""Seconds between a new root in `ca` and the first certificate of it: who reads the file meanwhile is in time."""


class Certificates:
    """Issues into the folders of the identities; the roots to trust stand in the file `ca`, too."""

    def __init__(
        self,
        openbao: OpenBao,
        topology: Topology,
        workloads: Sequence[Workload],
        *,
        server: Identity,
        client: Identity,
        ca: Path,
    ) -> None:
        self._openbao = openbao
        self._topology = topology
        self._workloads = workloads
        self._server = server
        self._client = client
        self._ca = ca
        self._authority: Authority | None = None
        self._issued = 0.0
        self._turn = asyncio.Lock()

    @property
    def bundle(self) -> bytes:
        """The roots to trust (PEM); empty before there is one."""
        return b"" if self._authority is None else self._authority.bundle.encode()

    @property
    def identities(self) -> tuple[Identity, ...]:
        """Everybody who gets a certificate."""
        return (self._server, self._client, *(each.identity for each in self._workloads))

    async def renew(self) -> None:
        """Gives everybody a new certificate."""
        async with self._turn:
            await self._issue()

    async def replace_authority(self, envoys: Sequence[Admin]) -> None:
        """Gives everybody a certificate of a new root, once all of `envoys` trust it."""
        async with self._turn:
            authority = self._known()
            await self._issue()  # the change before may have been cut short, and `announce` forgets its old root
            await self._blocking(authority.announce)
            await self._issue()  # still of the present root, and with the new one among those to trust
            new = next(serials(authority.bundle))
            for envoy in envoys:
                await until(
                    partial(envoy.trusts, new),
                    HEARD_WITHIN,
                    f"an Envoy had not heard of the new root after {HEARD_WITHIN:.0f} s; the old one goes on",
                )
            await asyncio.sleep(CLIENTS_HEAR_WITHIN)
            await self._blocking(authority.take_over)
            await self._issue()

    async def keep_fresh(self) -> None:
        """Renews at half their life, for ever. Looks at the clock on the wall: a laptop may have slept."""
        lifetime = self._topology.certificate_seconds
        while True:
            await asyncio.sleep(min(LOOK_EVERY_AT_MOST, lifetime / 10))
            if time.time() - self._issued > lifetime / 2:
                with contextlib.suppress(MeshError):  # OpenBao may be between two lives: the next round tries again
                    await self.renew()

    async def _issue(self) -> None:
        await self._blocking(self._issue_all)
        self._issued = time.time()

    def _blocking(self, work: Callable[[], None]) -> Awaitable[None]:
        def careful() -> None:
            try:
                work()
            except (hvac.exceptions.VaultError, OSError) as error:
                raise MeshError(f"OpenBao issues no certificates: {error}") from error

        return asyncio.to_thread(careful)

    def _known(self) -> Authority:
        if self._authority is None:
            raise MeshError("the mesh has no authority yet")
        return self._authority

    def _issue_all(self) -> None:
        if self._authority is None:
            self._authority = Authority(self._openbao.client(), self._topology)
        authority = self._authority
        write_atomically(self._ca, authority.bundle)
        for workload in self._workloads:
            authority.issue_workload(workload.identity, workload.service.account)
        authority.issue_workload(self._client, self._topology.ingress.account)
        names = ["localhost", *(f"{name}.localhost" for name in self._topology.services)]
        authority.issue_server(self._server, names, [ports.LOOPBACK])
