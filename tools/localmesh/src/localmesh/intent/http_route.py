"""What a mesh is to do with plain HTTP below a path, read from the topology."""

from collections.abc import Iterator
from dataclasses import dataclass

from localmesh.topology import EVERYBODY, Service

SECONDS = 10.0
"""How long an answer over HTTP may take: as long as the slowest RPC that does the same, a login."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRoute:
    """All paths that begin with `prefix`: who may ask there by the mesh, and how many seconds an answer may take."""

    prefix: str
    callers: tuple[str, ...]
    """Accounts, or `*` for all of the mesh; nobody else is let through."""
    seconds: float = SECONDS

    def is_open_to(self, account: str) -> bool:
        """Whether an account may ask."""
        return account in self.callers or EVERYBODY in self.callers


def http_routes_of(service: Service) -> Iterator[HttpRoute]:
    """The routes to what a service serves over HTTP."""
    return (HttpRoute(prefix=prefix, callers=callers) for prefix, callers in service.http.items())
