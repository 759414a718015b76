"""What `./mesh status --json` prints: a contract for scripts."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

READY, NOT_READY, NOT_RUNNING = 0, 3, 4
"""The exit status of `./mesh status`."""


@dataclass(frozen=True, kw_only=True)
class IngressStatus:
    """The way in; `ca` is the file with the root certificate to trust."""

    pid: int
    grpc: str
    rest: str
    ca: str


@dataclass(frozen=True, kw_only=True)
class SidecarStatus:
    """The sidecar of a workload."""

    pid: int
    inbound: str
    admin: str


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    """A workload: `pid` is 0 while it is between two lives."""

    name: str
    ready: bool
    pid: int
    grpc: str
    http: str | None
    metrics: str
    sidecar: SidecarStatus | None
    restarts: int


@dataclass(frozen=True, kw_only=True)
class PartStatus:
    """A part the services stand on."""

    name: str
    ready: bool
    pid: int
    address: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Status:
    """The whole mesh; without arguments: one that does not run."""

    ready: bool = False
    ingress: IngressStatus | None = None
    services: tuple[ServiceStatus, ...] = ()
    parts: tuple[PartStatus, ...] = field(default=())

    def to_json(self) -> str:
        """The document."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote."""
        document = json.loads(text)
        return cls(
            ready=document["ready"],
            ingress=None if document["ingress"] is None else IngressStatus(**document["ingress"]),
            services=tuple(_service(entry) for entry in document["services"]),
            parts=tuple(PartStatus(**entry) for entry in document["parts"]),
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """The status a running mesh keeps in a file; `Status()` before it has written the first."""
        try:
            return cls.from_json(path.read_text())
        except FileNotFoundError:
            return cls()

    @property
    def pids(self) -> Iterable[int]:
        """The processes of the mesh that run."""
        pids = [part.pid for part in self.parts] + [service.pid for service in self.services]
        pids += [service.sidecar.pid for service in self.services if service.sidecar is not None]
        pids += [self.ingress.pid] if self.ingress is not None else []
        return [pid for pid in pids if pid]


def _service(entry: dict[str, object]) -> ServiceStatus:
    sidecar = entry.pop("sidecar")
    return ServiceStatus(sidecar=SidecarStatus(**sidecar) if isinstance(sidecar, dict) else None, **entry)  # type: ignore[arg-type]
