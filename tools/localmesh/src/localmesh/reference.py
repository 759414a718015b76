"""The reference of every RPC in Markdown, from nothing but the descriptors and the topology."""

from collections.abc import Iterable, Sequence

from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from grpc_common.policy import MethodPolicy, service_policies
from localmesh.descriptors import find_service
from localmesh.topology import Topology

HEAD = """# Every RPC

Generated from the policies in the protos by `./mesh reference --write`; a test fails when it is out of date.
Timeouts are the server's cap and the client's default deadline. A retry has one owner: the client library, or the mesh
(the caller's sidecar, or the ingress).
"""
COLUMNS = ("RPC", "kind", "timeout", "retries", "repeatable", "token", "callers", "limits", "priority", "REST")
KINDS = {
    (False, False): "unary",
    (False, True): "server stream",
    (True, False): "client stream",
    (True, True): "two-way stream",
}
VERBS = ("get", "put", "post", "delete", "patch")
REPEATABLE = {"NO_SIDE_EFFECTS": "no side effects", "IDEMPOTENT": "idempotent", "UNKNOWN": "no"}


def reference_of(topology: Topology) -> str:
    """The whole document."""
    sections = (
        f"\n## {grpc.full_name}\nServed by `{name}`, as the account `{service.account}`.\n\n{_table(grpc)}"
        for name, service in topology.services.items()
        for grpc in map(find_service, service.grpc)
    )
    return "".join((HEAD, *sections))


def _table(service: ServiceDescriptor) -> str:
    policies = service_policies(service).values()
    rows = [_row(method, policy) for method, policy in zip(service.methods, policies, strict=True)]
    lines = (COLUMNS, ("---",) * len(COLUMNS), *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _row(method: MethodDescriptor, policy: MethodPolicy) -> Sequence[str]:
    return (
        f"`{method.name}`",
        KINDS[policy.request_streaming, policy.response_streaming],
        f"{policy.timeout:g} s",
        _retries(policy),
        _repeatable(policy),
        _token(policy),
        ", ".join(policy.callers) or "nobody",
        _limits(policy),
        policy.priority.lower(),
        ", ".join(_rest(method)) or "-",
    )


def _retries(policy: MethodPolicy) -> str:
    if policy.retry is None:
        return "none"
    codes = ", ".join(policy.retry.codes)
    pauses = f"{policy.retry.initial:g} to {policy.retry.max:g} s"
    return f"{policy.retry.owner}: {policy.retry.max_attempts} attempts on {codes}, pauses {pauses}"


def _repeatable(policy: MethodPolicy) -> str:
    if policy.by_request_id:
        return "with its request_id"
    return REPEATABLE[policy.idempotency]


def _token(policy: MethodPolicy) -> str:
    if policy.access.anonymous:
        return "none needed"
    roles = f"role {' or '.join(policy.access.roles)}" if policy.access.roles else ""
    scopes = f"scope {' and '.join(policy.access.scopes)}" if policy.access.scopes else ""
    return "; ".join(filter(None, (roles, scopes))) or "any"


def _limits(policy: MethodPolicy) -> str:
    rate = f"{policy.rate.per_second:g} a second, {policy.rate.burst} at once" if policy.rate else ""
    concurrent = f"{policy.max_concurrent} under way" if policy.max_concurrent else ""
    return "; ".join(filter(None, (concurrent, rate))) or "-"


def _rest(method: MethodDescriptor) -> Iterable[str]:
    options = method.GetOptions()
    if options.HasExtension(annotations_pb2.http):
        rule = options.Extensions[annotations_pb2.http]
        for each in (rule, *rule.additional_bindings):
            verb = each.WhichOneof("pattern")
            if verb in VERBS:
                yield f"`{verb.upper()} {getattr(each, verb)}`"
            elif verb == "custom":
                yield f"`{each.custom.kind} {each.custom.path}`"
