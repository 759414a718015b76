"""A route per RPC, with the time its policy gives it."""

from collections.abc import Iterable

from grpc_common.policy import MethodPolicy, PolicyError, Retry
from localmesh.envoy.config import HEALTH, REFLECTION, Config, seconds

UNLIMITED = seconds(0)
HEALTH_TIMEOUT = 5.0
RETRIABLE = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "UNAVAILABLE"})
"""The status codes Envoy can repeat a call for."""


def methods(policies: Iterable[MethodPolicy], cluster: str, *, slack: float, retries: bool) -> list[Config]:
    """The routes to the methods of a service.

    A unary call may take `slack` seconds longer than its policy says: the server's own DEADLINE_EXCEEDED must be the
    first to come, for Envoy's is an UNAVAILABLE, which clients repeat. Streams end when the server ends them. With
    `retries` the calls whose policy makes the mesh their owner are repeated; others never are.
    """
    return [_method(policy, cluster, slack, retries=retries) for policy in policies]


def observation(cluster: str) -> list[Config]:
    """The routes to health and reflection, whose paths are the same for all services."""
    watch = f"{HEALTH}Watch"
    return [
        {"match": {"path": watch, "grpc": {}}, "route": _endless(cluster)},
        {"match": {"prefix": HEALTH, "grpc": {}}, "route": {"cluster": cluster, "timeout": seconds(HEALTH_TIMEOUT)}},
        *({"match": {"prefix": prefix, "grpc": {}}, "route": _endless(cluster)} for prefix in REFLECTION),
    ]


def _method(policy: MethodPolicy, cluster: str, slack: float, *, retries: bool) -> Config:
    if policy.request_streaming or policy.response_streaming:
        route = _endless(cluster)
    else:
        route = {"cluster": cluster, "timeout": seconds(policy.timeout + slack)}
    if retries and policy.retry is not None and policy.retry.owner == "mesh":
        route["retry_policy"] = _retry(policy, policy.retry)
    return {"match": {"path": policy.path, "grpc": {}}, "route": route}


def _endless(cluster: str) -> Config:
    return {"cluster": cluster, "timeout": UNLIMITED, "idle_timeout": UNLIMITED}


def _retry(policy: MethodPolicy, retry: Retry) -> Config:
    if impossible := sorted(set(retry.codes) - RETRIABLE):
        raise PolicyError(
            f"{policy.path}: the mesh cannot retry on {', '.join(impossible)}, only on {', '.join(RETRIABLE)}"
        )
    return {
        "retry_on": ",".join(code.lower().replace("_", "-") for code in retry.codes),
        "num_retries": retry.max_attempts - 1,
        "retry_back_off": {"base_interval": seconds(retry.initial), "max_interval": seconds(retry.max)},
    }
