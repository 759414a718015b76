"""What holds for every call of a method: read once from its policy, and from the settings where there is none."""

from dataclasses import dataclass

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from grpc import StatusCode

from grpc_common.client.backoff import Backoff
from grpc_common.client.request_id import RequestId
from grpc_common.client.retry_config import RetryConfig
from grpc_common.policy import has_request_id, policy_of

_IDEMPOTENT = (descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS, descriptor_pb2.MethodOptions.IDEMPOTENT)


@dataclass(frozen=True, slots=True)
class CallPlan:
    """How calls of the method at `path` are made."""

    path: str
    request_streaming: bool
    response_streaming: bool
    timeout: float
    """Seconds, where the caller gives none."""
    attempts: int
    """All together; 1 where the client does not repeat."""
    codes: frozenset[StatusCode]
    """What is worth another attempt."""
    backoff: Backoff
    hedged: bool
    """Whether a slow call may be made a second time before the first has ended."""
    request_type: str = ""
    """The full name of the message that requests are, "" where the program does not know the method."""
    request_id: RequestId | None = None
    """What fills requests in, where their `request_id` alone makes it safe to repeat them."""

    @property
    def service(self) -> str:
        """The full name of the service."""
        return self.path.removeprefix("/").rpartition("/")[0]

    @property
    def name(self) -> str:
        """The method's own name."""
        return self.path.rpartition("/")[2]


def plan_of(
    path: str, *, request_streaming: bool, response_streaming: bool, default_timeout: float, retry: RetryConfig
) -> CallPlan:
    """Return the plan of "/package.Service/Method"; raises PolicyError where the policy contradicts itself.

    The owner of the retries is the policy's: where that is the mesh or nobody, the client makes one attempt. A write
    is repeated only if it is declared idempotent, or carries a `request_id` by which the server knows it again; the
    client sees to that. Of a call that core has not sent gRPC core itself tries again (transparent retry), and of all
    others nobody can know whether the server has done the work.
    """
    kind = {"path": path, "request_streaming": request_streaming, "response_streaming": response_streaming}
    method = _method(path)
    kind |= {"request_type": method.input_type.full_name if method is not None else ""}
    policy = policy_of(path)
    if policy is None:
        repeats = retry.max_retries > 0 and (path in retry.idempotent_methods or _is_idempotent(method))
        return CallPlan(
            **kind,  # type: ignore[arg-type]  # each has its own type
            timeout=default_timeout,
            attempts=1 + retry.max_retries if repeats else 1,
            codes=retry.codes,
            backoff=Backoff(retry.backoff_base, retry.backoff_max),
            hedged=False,
            request_id=_request_id(method) if repeats and not _is_idempotent(method) else None,
        )
    owned = policy.retry if policy.retry is not None and policy.retry.owner == "client" else None
    reads = policy.idempotency == "NO_SIDE_EFFECTS" and not request_streaming and not response_streaming
    return CallPlan(
        **kind,  # type: ignore[arg-type]  # each has its own type
        timeout=policy.timeout,
        attempts=owned.max_attempts if owned else 1,
        codes=frozenset(StatusCode[code] for code in owned.codes) if owned else frozenset(),
        backoff=Backoff(owned.initial, owned.max) if owned else Backoff(retry.backoff_base, retry.backoff_max),
        hedged=owned is not None and reads and retry.hedge_ratio > 0,
        request_id=_request_id(method) if owned and policy.by_request_id else None,
    )


def _method(path: str) -> MethodDescriptor | None:
    service, _, name = path.removeprefix("/").rpartition("/")
    try:
        return descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    except KeyError:
        return None


def _is_idempotent(method: MethodDescriptor | None) -> bool:
    return method is not None and method.GetOptions().idempotency_level in _IDEMPOTENT


def _request_id(method: MethodDescriptor | None) -> RequestId | None:
    return RequestId(method.input_type) if method is not None and has_request_id(method) else None
