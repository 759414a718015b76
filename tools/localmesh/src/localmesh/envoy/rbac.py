"""Who may call what: by SPIFFE id and path, and nothing else goes through."""

from collections.abc import Iterable, Sequence

from localmesh.envoy.config import HEALTH, HEALTH_CHECK, REFLECTION, Config, extension
from localmesh.intent.route import Route
from localmesh.topology import Topology


def access(topology: Topology, routes: Sequence[Route]) -> Config:
    """The filter that lets each method's callers through, and the observers to health and reflection.

    Whoever may call any method may ask whether the service is healthy: its sidecar does so before it sends a call.
    """
    rules = {route.path: _rule(topology, route.callers, {"exact": route.path}) for route in routes if route.callers}
    observed = (HEALTH, *REFLECTION)
    if topology.observers:
        rules |= {prefix: _rule(topology, topology.observers, {"prefix": prefix}) for prefix in observed}
    if callers := tuple(dict.fromkeys(caller for route in routes for caller in route.callers)):
        rules[HEALTH_CHECK] = _rule(topology, callers, {"exact": HEALTH_CHECK})
    fields = {"rules": {"action": "ALLOW", "policies": rules}}
    return extension("envoy.filters.http.rbac", "filters.http.rbac.v3.RBAC", **fields)


def _rule(topology: Topology, accounts: Iterable[str], path: Config) -> Config:
    ids = [{"authenticated": {"principal_name": {"exact": topology.spiffe_id(account)}}} for account in accounts]
    return {"principals": ids, "permissions": [{"url_path": {"path": path}}]}
