"""A route per RPC, with the time and the retries its policy gives it."""

from collections.abc import Iterable

from grpc_common.policy import PolicyError
from localmesh.envoy.config import HEALTH, REFLECTION, Config, seconds
from localmesh.intent.http_route import HttpRoute
from localmesh.intent.route import Hop, Repeat, Route

UNLIMITED = seconds(0)
HEALTH_TIMEOUT = 5.0
RETRIABLE = ("CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "UNAVAILABLE")
"""The status codes Envoy can repeat a call for."""
GRPC: Config = {"grpc": {}}
_GRPC_OR_WEB = {"safe_regex": {"regex": r"application/grpc(-web(-text)?)?(\+.*)?"}}
GRPC_OR_WEB: Config = {"headers": [{"name": "content-type", "string_match": _GRPC_OR_WEB}]}
"""At the ingress, where gRPC-Web is no gRPC yet when the route is chosen."""
NOT_THE_SAME = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"


def methods(routes: Iterable[Route], cluster: str, hop: Hop) -> list[Config]:
    """The routes to the methods of a service, as `hop` treats them."""
    return [_method(route, cluster, hop) for route in routes]


def pages(routes: Iterable[HttpRoute], cluster: str, hop: Hop) -> list[Config]:
    """The routes to what a service serves over HTTP."""
    return [
        {"match": {"prefix": route.prefix}, "route": {"cluster": cluster, "timeout": seconds(hop.wait(route) or 0)}}
        for route in routes
    ]


def observation(cluster: str, hop: Hop) -> list[Config]:
    """The routes to health and reflection, whose paths are the same for all services."""
    grpc = _of_grpc(hop)
    return [
        {"match": {"path": f"{HEALTH}Watch", **grpc}, "route": _endless(cluster)},
        {"match": {"prefix": HEALTH, **grpc}, "route": {"cluster": cluster, "timeout": seconds(HEALTH_TIMEOUT)}},
        *({"match": {"prefix": prefix, **grpc}, "route": _endless(cluster)} for prefix in REFLECTION),
    ]


def _method(route: Route, cluster: str, hop: Hop) -> Config:
    wait = hop.wait(route)
    action: Config = _endless(cluster) if wait is None else {"cluster": cluster, "timeout": seconds(wait)}
    if (repeat := hop.repeat(route)) is not None:
        action["retry_policy"] = _retry(route, repeat)
    return {"match": {"path": route.path, **_of_grpc(hop)}, "route": action}


def _of_grpc(hop: Hop) -> Config:
    return GRPC_OR_WEB if hop is Hop.INGRESS else GRPC


def _endless(cluster: str) -> Config:
    return {"cluster": cluster, "timeout": UNLIMITED, "idle_timeout": UNLIMITED}


def _retry(route: Route, repeat: Repeat) -> Config:
    if impossible := sorted(set(repeat.codes) - set(RETRIABLE)):
        raise PolicyError(
            f"{route.path}: the mesh cannot retry on {', '.join(impossible)}, only on {', '.join(RETRIABLE)}"
        )
    other_host = {"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {"@type": _type(NOT_THE_SAME)}}
    return {
        "retry_on": ",".join(code.lower().replace("_", "-") for code in repeat.codes),
        "num_retries": repeat.attempts - 1,
        "retry_back_off": {"base_interval": seconds(repeat.initial), "max_interval": seconds(repeat.max)},
        "retry_host_predicate": [other_host],
        "host_selection_retry_max_attempts": 3,
    }


def _type(message: str) -> str:
    return f"type.googleapis.com/{message}"
