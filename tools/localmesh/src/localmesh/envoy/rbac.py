"""Who may call what: by SPIFFE id and path, and nothing else goes through."""

from collections.abc import Iterable

from grpc_common.policy import MethodPolicy
from localmesh.envoy.config import HEALTH, REFLECTION, Config, extension
from localmesh.topology import Topology


def access(topology: Topology, policies: Iterable[MethodPolicy]) -> Config:
    """The filter that lets each method's callers through, and the observers to health and reflection."""
    rules = {
        policy.path: _rule(topology, policy.callers, {"exact": policy.path}) for policy in policies if policy.callers
    }
    observed = (HEALTH, *REFLECTION)
    if topology.observers:
        rules |= {prefix: _rule(topology, topology.observers, {"prefix": prefix}) for prefix in observed}
    fields = {"rules": {"action": "ALLOW", "policies": rules}}
    return extension("envoy.filters.http.rbac", "filters.http.rbac.v3.RBAC", **fields)


def _rule(topology: Topology, accounts: Iterable[str], path: Config) -> Config:
    ids = [{"authenticated": {"principal_name": {"exact": topology.spiffe_id(account)}}} for account in accounts]
    return {"principals": ids, "permissions": [{"url_path": {"path": path}}]}
