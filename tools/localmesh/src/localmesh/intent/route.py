"""What a mesh is to do with one RPC, read from its policy."""

from dataclasses import dataclass
from enum import Enum

from grpc_common.policy import MethodPolicy
from localmesh.intent.http_route import HttpRoute


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """How failed calls are repeated: `attempts` counts the first one too, the pauses are seconds."""

    attempts: int
    codes: tuple[str, ...]
    initial: float
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One RPC: who may call it by the mesh, how long a call may take, and whether the mesh repeats it."""

    path: str
    callers: tuple[str, ...]
    """Accounts; nobody else is let through."""
    anonymous: bool
    seconds: float | None
    """How long the server itself lets a call take; `None` for a stream, which the server alone ends."""
    repeat: Repeat | None
    """`None` unless the policy makes the mesh the owner of the retries."""


class Hop(Enum):
    """A place in the mesh that a call passes, by how much longer than the server it waits, in seconds.

    The server's own DEADLINE_EXCEEDED must be the first to come, and an inner proxy's answer before an outer one's.
    """

    INBOUND = 2.0
    OUTBOUND = 4.0
    INGRESS = 4.5

    def wait(self, route: Route | HttpRoute) -> float | None:
        """How long this hop lets a call take, with all its attempts; `None`: as long as it likes."""
        return None if route.seconds is None else route.seconds + self.value

    def repeat(self, route: Route) -> Repeat | None:
        """How this hop repeats a call. Only the first hop of a call does, never the one before the server."""
        return None if self is Hop.INBOUND else route.repeat


def route_of(policy: MethodPolicy) -> Route:
    """The route of an RPC."""
    retry = policy.retry
    streaming = policy.request_streaming or policy.response_streaming
    return Route(
        path=policy.path,
        callers=policy.callers,
        anonymous=policy.access.anonymous,
        seconds=None if streaming else policy.timeout,
        repeat=Repeat(attempts=retry.max_attempts, codes=retry.codes, initial=retry.initial, max=retry.max)
        if retry is not None and retry.owner == "mesh"
        else None,
    )
