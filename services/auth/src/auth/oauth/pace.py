"""How often somebody may ask: over HTTP as often as over gRPC, where the policy of the RPC says it."""

from collections.abc import Callable
from time import monotonic

from auth.caller import Caller
from auth.oauth.policy import policy_of
from grpc_common.client_address import network_of
from grpc_common.errors import RateLimitError
from grpc_common.interceptors.rate_limit import Buckets


class Pace:
    """The rate of one method of AuthService, for each client at each address; each replica counts for itself.

    It is for clients that have proved themselves, and for the first party: who has the wrong secret is held up by the
    login guard, and does not use up what the client itself may.
    """

    def __init__(self, method: str, clock: Callable[[], float] = monotonic) -> None:
        rate = policy_of(method).rate
        if rate is None:
            raise ValueError(f"the policy of {method} has no rate")
        self._buckets = Buckets(rate, clock)

    def keep(self, caller: Caller, client_id: str) -> None:
        """Count one request; raise RateLimitError when it is one too many."""
        # Behind a sidecar programs of the mesh may have no address: the name keeps them out of each other's way.
        wait = self._buckets.take(f"{network_of(caller.address)} {client_id}")
        if wait > 0:
            raise RateLimitError("too many requests", retry_after=wait)
