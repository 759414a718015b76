"""How to run a topology."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from localmesh.failure import UsageError
from localmesh.topology import Topology, near


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run does otherwise than the topology says."""

    port: int | None = None
    """The ingress port; `None` for the topology's."""
    replicas: Mapping[str, int] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    """The services to run beside the issuer of the tokens, without which nobody could call them; empty for all."""
    sidecars: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables for the services: one that begins with a service's prefix for that one alone, the others for all."""
    otlp: str | None = None
    """HOST:PORT of a collector that gets all spans, too; `None` for no other than the mesh's own."""
    keep: bool = True
    """Whether the data is to be there the next time."""

    def instances(self, topology: Topology) -> dict[str, int]:
        """How many instances each service of the topology has; raises `UsageError` for a service that is none of it."""
        for name in (*self.replicas, *self.only):
            if name not in topology.services:
                raise UsageError(f"there is no service {name}{near(name, topology.services)}")
        chosen = {*self.only, topology.issuer} if self.only else topology.services
        return {name: self.replicas.get(name, 1) if name in chosen else 0 for name in topology.services}
