"""What holds for every call of a method: read once from its policy, and from the settings where there is none."""

from dataclasses import dataclass

from google.protobuf import descriptor_pb2, descriptor_pool
from grpc import StatusCode

from grpc_common.client.backoff import Backoff
from grpc_common.client.retry_config import RetryConfig
from grpc_common.policy import policy_of

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
    is never repeated, not even when no connection could be made for it: of a call that core has not sent gRPC core
    itself tries again (transparent retry), and of all others nobody can know whether the server has done the work.
    """
    kind = {"path": path, "request_streaming": request_streaming, "response_streaming": response_streaming}
    policy = policy_of(path)
    if policy is None:
        repeats = retry.max_retries > 0 and (path in retry.idempotent_methods or _is_idempotent(path))
        return CallPlan(
            **kind,  # type: ignore[arg-type]  # each has its own type
            timeout=default_timeout,
            attempts=1 + retry.max_retries if repeats else 1,
            codes=retry.codes,
            backoff=Backoff(retry.backoff_base, retry.backoff_max),
            hedged=False,
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
    )


def _is_idempotent(path: str) -> bool:
    service, _, name = path.removeprefix("/").rpartition("/")
    try:
        method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    except KeyError:
        return False
    return method.GetOptions().idempotency_level in _IDEMPOTENT
