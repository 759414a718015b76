"""Who may call what: by SPIFFE id and path, and nothing else goes through."""

from collections.abc import Iterable, Sequence

from localmesh.envoy.config import HEALTH, HEALTH_CHECK, REFLECTION, Config, extension
from localmesh.intent.http_route import HttpRoute
from localmesh.intent.route import Route
from localmesh.topology import EVERYBODY, Topology


def access(topology: Topology, routes: Sequence[Route], pages: Sequence[HttpRoute] = ()) -> Config:
    """The filter that lets the callers of each method and page through, and the observers to health and reflection.

    Whoever may call anything may ask whether the service is healthy: its sidecar does so before it sends a call.
    """
    rules = {route.path: _rule(topology, route.callers, {"exact": route.path}) for route in routes if route.callers}
    rules |= {page.prefix: _rule(topology, page.callers, {"prefix": page.prefix}) for page in pages}
    observed = (HEALTH, *REFLECTION)
    if topology.observers:
        rules |= {prefix: _rule(topology, topology.observers, {"prefix": prefix}) for prefix in observed}
    named = [*(route.callers for route in routes), *(page.callers for page in pages)]
    if callers := tuple(dict.fromkeys(caller for callers in named for caller in callers)):
        rules[HEALTH_CHECK] = _rule(topology, callers, {"exact": HEALTH_CHECK})
    fields = {"rules": {"action": "ALLOW", "policies": rules}}
    return extension("envoy.filters.http.rbac", "filters.http.rbac.v3.RBAC", **fields)


def _rule(topology: Topology, accounts: Iterable[str], path: Config) -> Config:
    ids = [{"authenticated": {"principal_name": _name(topology, account)}} for account in accounts]
    return {"principals": ids, "permissions": [{"url_path": {"path": path}}]}


def _name(topology: Topology, account: str) -> Config:
    return {"prefix": topology.spiffe_prefix} if account == EVERYBODY else {"exact": topology.spiffe_id(account)}
