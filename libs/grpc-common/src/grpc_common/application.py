"""What a service is made of, as the process that runs it sees it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from grpc.aio import ServerInterceptor

from grpc_common.asgi import ASGIApp
from grpc_common.chain import Chain
from grpc_common.health.check import DependencyCheck
from grpc_common.revocations import Restore
from grpc_common.token_verifier import TokenVerifier

type Register = Callable[[Any], None]
"""Adds a service's servicers to anything that takes them as `grpc.aio.Server` does."""


type Arrange = Callable[[Chain], Chain | Sequence[ServerInterceptor]]
"""Chooses the interceptors of a service, outermost first."""


@dataclass(frozen=True, slots=True)
class Application:
    """The servicers of a service, and what it depends on: its health is theirs. Of ports, signals and loops it knows
    nothing.
    """

    register: Register
    dependencies: Sequence[DependencyCheck] = ()
    end_streams: Callable[[], None] = lambda: None
    """Has streams that go on for ever, such as watches, end by themselves; called when the servers take no new calls.
    Those that do not end are cut off when the time to drain is over, and all calls wait for that.
    """
    verifier: TokenVerifier | None = None
    """Judges callers' tokens where the service issues them itself; None: the issuer of the settings is trusted."""
    restore_revocations: Restore | None = None
    """In the service that takes tokens back: what it took back in the last twenty minutes, asked for at the start and
    whenever Valkey has lost it.
    """
    http: ASGIApp | None = None
    """What is served over HTTP, in the same process and with the same end, where the settings enable that."""
    chain: Arrange = lambda chain: chain
    """Gives the interceptors of the service's calls, from the default chain, such as `lambda chain:
    chain.before(ValidationInterceptor, Tenants())`; or a list, where one of them is not this library's.
    """
    without_policy: Collection[str] = ()
    """The full names of services that somebody else has written, and that are served without timeouts and limits, to
    whoever has a token."""
