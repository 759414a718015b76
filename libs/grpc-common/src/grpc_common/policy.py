"""The policy of each RPC, read from the options in its descriptor (`meshwork/policy/v1/policy.proto`)."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.duration_pb2 import Duration

from meshwork.policy.v1 import policy_pb2

type Idempotency = Literal["NO_SIDE_EFFECTS", "IDEMPOTENT", "UNKNOWN"]
type Priority = Literal["HEALTH", "INTERACTIVE", "BATCH"]
type RetryOwner = Literal["client", "mesh"]

LONGEST: Final = 365 * 24 * 3600.0
"""The most seconds a call is given, a year; whoever asks for more gets that.

Core keeps deadlines as nanoseconds since 1970 in 64 bits: from about 7.4e9 seconds on they lie in the past, and the
call is DEADLINE_EXCEEDED at once. What it tells servers is never more than 27000 hours.
"""
MIN_ATTEMPTS: Final = 2
MAX_ATTEMPTS: Final = 5
DEFAULT_RETRY_CODES: Final = ("UNAVAILABLE",)
DEFAULT_INITIAL_BACKOFF: Final = 0.1
DEFAULT_MAX_BACKOFF: Final = 1.0

# Written out so that tools without grpcio can read policies.
STATUS_CODES: Final = frozenset(
    {
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    }
)

_OWNERS: Final[dict[int, RetryOwner]] = {
    policy_pb2.RETRY_OWNER_CLIENT: "client",
    policy_pb2.RETRY_OWNER_MESH: "mesh",
}
_PRIORITIES: Final[dict[int, Priority]] = {
    policy_pb2.PRIORITY_UNSPECIFIED: "INTERACTIVE",
    policy_pb2.PRIORITY_HEALTH: "HEALTH",
    policy_pb2.PRIORITY_INTERACTIVE: "INTERACTIVE",
    policy_pb2.PRIORITY_BATCH: "BATCH",
}
_IDEMPOTENCIES: Final[dict[int, Idempotency]] = {
    descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS: "NO_SIDE_EFFECTS",
    descriptor_pb2.MethodOptions.IDEMPOTENT: "IDEMPOTENT",
}


class PolicyError(ValueError):
    """A method whose policy is missing or contradicts itself; the message names the method and what to write."""


class NoPolicyError(PolicyError):
    """A method without any policy."""


INFRASTRUCTURE: Final = frozenset(
    {"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}
)
"""Services of every server, whose protos are not ours: they have no policy and need none."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Who repeats a failed call: `max_attempts` counts the first one too; `initial` and `max` are seconds."""

    owner: RetryOwner
    max_attempts: int
    codes: tuple[str, ...]
    initial: float
    max: float


@dataclass(frozen=True, slots=True)
class Access:
    """What the caller must prove: no token at all, or a token with one of `roles` and all of `scopes`."""

    anonymous: bool
    roles: tuple[str, ...]
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket per principal: calls a second on average, and calls at once after a pause."""

    per_second: float
    burst: int


@dataclass(frozen=True, slots=True)
class MethodPolicy:
    """The policy of one method with the defaults of its service merged in; `timeout` is seconds."""

    path: str
    request_streaming: bool
    response_streaming: bool
    idempotency: Idempotency
    timeout: float
    retry: Retry | None
    access: Access
    callers: tuple[str, ...]
    max_concurrent: int
    rate: Rate | None
    priority: Priority
    by_request_id: bool = False
    """Whether a request with the same `request_id` does nothing but answer again (AIP-155), and one without it does
    the work a second time: whoever repeats it fills the field first."""


def service_policies(service: ServiceDescriptor) -> dict[str, MethodPolicy]:
    """Return the policy of every method of `service` by path; raise PolicyError for the first that has no valid one."""
    return {policy.path: policy for policy in map(method_policy, service.methods)}


def policies_of(service: str) -> list[MethodPolicy]:
    """Return the policies of the methods of "pkg.Service" that have one; where nobody knows the service, none."""
    try:
        methods = descriptor_pool.Default().FindServiceByName(service).methods
    except KeyError:
        return []
    found = (policy_of(f"/{service}/{method.name}") for method in methods)
    return [policy for policy in found if policy is not None]


def is_declared(path: str) -> bool:
    """Say whether a proto that the program has loaded declares "/pkg.Service/Method"."""
    return declared_method(path) is not None


def policy_of(path: str) -> MethodPolicy | None:
    """Return the policy of "/pkg.Service/Method", or None when the program knows no such method or it declares none."""
    method = declared_method(path)
    if method is None or not method.GetOptions().HasExtension(policy_pb2.policy):
        return None
    return _known_policy(method)


# Of declared methods only: paths may be made up by callers, without end.
@cache
def _known_policy(method: MethodDescriptor) -> MethodPolicy:
    return method_policy(method)


def declared_method(path: str) -> MethodDescriptor | None:
    """Return the descriptor of "/pkg.Service/Method", or None when the program knows no such method."""
    service, _, name = path.removeprefix("/").rpartition("/")
    try:
        method: MethodDescriptor = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    except KeyError:
        return None
    return method


def method_policy(method: MethodDescriptor) -> MethodPolicy:
    """Return the policy of `method`; raise PolicyError when it has none of its own or an invalid one."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    options = method.GetOptions()
    if not options.HasExtension(policy_pb2.policy):
        raise NoPolicyError(f"{path} has no policy: give it `option (meshwork.policy.v1.policy)`")
    own = options.Extensions[policy_pb2.policy]
    shared = method.containing_service.GetOptions().Extensions[policy_pb2.default_policy]
    merged = _merge(shared, own)
    idempotency = _IDEMPOTENCIES.get(options.idempotency_level, "UNKNOWN")
    return MethodPolicy(
        path=path,
        request_streaming=bool(method.client_streaming),
        response_streaming=bool(method.server_streaming),
        idempotency=idempotency,
        timeout=_timeout(path, merged),
        retry=_retry(path, merged, method, idempotency),
        access=_access(path, merged),
        callers=_names(path, "caller", merged.callers),
        max_concurrent=merged.max_concurrent,
        rate=_rate(path, merged),
        priority=_priority(path, merged),
        by_request_id=idempotency == "UNKNOWN" and has_request_id(method),
    )


def has_request_id(method: MethodDescriptor) -> bool:
    """Say whether requests of `method` have a `request_id` that can be filled in: a string, and no part of a choice."""
    field = method.input_type.fields_by_name.get("request_id")
    if field is None or field.is_repeated or field.type != field.TYPE_STRING:
        return False
    oneof = field.containing_oneof
    return oneof is None or len(oneof.fields) == 1


def _merge(shared: policy_pb2.Policy, own: policy_pb2.Policy) -> policy_pb2.Policy:
    """Lay `own` over `shared`: a list that is set replaces, and so does a field of a nested message."""
    merged = policy_pb2.Policy()
    merged.CopyFrom(shared)
    for field, _ in own.ListFields():
        if field.is_repeated:
            merged.ClearField(field.name)  # type: ignore[arg-type]  # the stub knows literals only
    if own.access.roles:
        merged.access.ClearField("roles")
    if own.access.scopes:
        merged.access.ClearField("scopes")
    if own.retry.codes:
        merged.retry.ClearField("codes")
    # A duration is one value: merged, the seconds of one would stand beside the nanos of the other.
    if own.HasField("timeout"):
        merged.ClearField("timeout")
    if own.retry.backoff.HasField("initial"):
        merged.retry.backoff.ClearField("initial")
    if own.retry.backoff.HasField("max"):
        merged.retry.backoff.ClearField("max")
    merged.MergeFrom(own)
    return merged


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def _timeout(path: str, policy: policy_pb2.Policy) -> float:
    seconds = _seconds(policy.timeout)
    if seconds <= 0:
        raise PolicyError(f"{path} has no timeout: say how long a call may take, such as `timeout: {{seconds: 5}}`")
    if seconds > LONGEST:
        raise PolicyError(f"{path} has a timeout of {seconds:g} s: it must be at most a year, {LONGEST:.0f} s")
    return seconds


def _access(path: str, policy: policy_pb2.Policy) -> Access:
    mode = policy.access.mode
    if mode not in (policy_pb2.ACCESS_MODE_ANONYMOUS, policy_pb2.ACCESS_MODE_AUTHENTICATED):
        raise PolicyError(f"{path} has no access mode: say ACCESS_MODE_AUTHENTICATED or ACCESS_MODE_ANONYMOUS")
    anonymous = mode == policy_pb2.ACCESS_MODE_ANONYMOUS
    roles = _names(path, "role", policy.access.roles)
    scopes = _names(path, "scope", policy.access.scopes)
    if anonymous and (roles or scopes):
        raise PolicyError(f"{path} is anonymous and asks for roles or scopes: a caller without a token has none")
    return Access(anonymous, roles, scopes)


def _names(path: str, what: str, names: Iterable[str]) -> tuple[str, ...]:
    found = tuple(names)
    if not all(name.strip() for name in found):
        raise PolicyError(f"{path} names an empty {what}")
    if len(set(found)) != len(found):
        raise PolicyError(f"{path} names a {what} twice")
    return found


def _retry(path: str, policy: policy_pb2.Policy, method: MethodDescriptor, idempotency: Idempotency) -> Retry | None:
    owner = _OWNERS.get(policy.retry.owner)
    if owner is None:
        if policy.retry.max_attempts > 1:
            raise PolicyError(f"{path} has max_attempts and no retry owner: say RETRY_OWNER_CLIENT or RETRY_OWNER_MESH")
        return None
    attempts = policy.retry.max_attempts
    if not MIN_ATTEMPTS <= attempts <= MAX_ATTEMPTS:
        raise PolicyError(f"{path} has max_attempts {attempts}: it must be {MIN_ATTEMPTS} to {MAX_ATTEMPTS}")
    if idempotency == "UNKNOWN" and not has_request_id(method):
        raise PolicyError(
            f"{path} may be retried by the {owner} but is neither NO_SIDE_EFFECTS nor IDEMPOTENT, and "
            f"{method.input_type.name} has no string request_id: a retry could do the work twice"
        )
    if idempotency == "UNKNOWN" and owner == "mesh":
        raise PolicyError(
            f"{path} may be retried by the mesh, which cannot fill a request_id that the caller has left empty, and "
            "without one a retry could do the work twice: say RETRY_OWNER_CLIENT, whose library fills it, or "
            "IDEMPOTENT if a repeat does nothing more"
        )
    codes = tuple(policy.retry.codes) or DEFAULT_RETRY_CODES
    for code in codes:
        if code not in STATUS_CODES:
            raise PolicyError(f"{path} retries on {code!r}, which is not the name of a gRPC error status")
    backoff = policy.retry.backoff
    initial = _seconds(backoff.initial) if backoff.HasField("initial") else DEFAULT_INITIAL_BACKOFF
    longest = _seconds(backoff.max) if backoff.HasField("max") else max(DEFAULT_MAX_BACKOFF, initial)
    if not 0 < initial <= longest <= LONGEST:
        raise PolicyError(
            f"{path} has a backoff from {initial:g} s to {longest:g} s: it must grow from above 0 to at most a year"
        )
    return Retry(owner, attempts, codes, initial, longest)


def _rate(path: str, policy: policy_pb2.Policy) -> Rate | None:
    if not policy.HasField("rate"):
        return None
    per_second = policy.rate.per_second
    if not 0 < per_second < float("inf"):
        raise PolicyError(f"{path} has a rate of {per_second:g} calls a second: it must be above 0")
    return Rate(per_second, policy.rate.burst or max(1, round(per_second)))


def _priority(path: str, policy: policy_pb2.Policy) -> Priority:
    if policy.priority not in _PRIORITIES:
        raise PolicyError(f"{path} has an unknown priority {policy.priority}")
    return _PRIORITIES[policy.priority]
