"""The login guard of the service: in Valkey, and of this process alone while that is away."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from pydantic import SecretBytes, SecretStr

from auth.guard import Attempt, LoginGuard
from auth.guard_limits import GuardLimits
from auth.memory_guard import MemoryGuard
from auth.valkey_guard import ValkeyGuard
from grpc_common.health.check import DependencyCheck
from grpc_common.valkey_link import ValkeyAwayError, open_link

ANSWER_WITHIN: Final = 0.25
"""Seconds that a login waits for Valkey."""
CONNECTIONS: Final = 20


class DegradingGuard:
    """A LoginGuard that asks `shared`, and `own` while that is away.

    What is known of tries does not go from one to the other. So when `shared` goes away, or comes back without its
    memory, an account has at the most as many tries again as it had at first, for each replica.
    """

    def __init__(self, shared: LoginGuard, own: LoginGuard) -> None:
        self._shared = shared
        self._own = own

    async def enter(self, attempt: Attempt) -> bool:
        """Ask whichever is there."""
        try:
            return await self._shared.enter(attempt)
        except ValkeyAwayError:
            return await self._own.enter(attempt)

    # Both are told what became of a try, as nobody knows which of them let it in.

    async def failed(self, attempt: Attempt) -> None:
        """Tell both."""
        await self._own.failed(attempt)
        await _told(self._shared.failed, attempt)

    async def succeeded(self, attempt: Attempt) -> None:
        """Tell both."""
        await self._own.succeeded(attempt)
        await _told(self._shared.succeeded, attempt)

    async def recognised(self, attempt: Attempt) -> None:
        """Tell both."""
        await self._own.recognised(attempt)
        await _told(self._shared.recognised, attempt)

    async def undecided(self, attempt: Attempt) -> None:
        """Tell both."""
        await self._own.undecided(attempt)
        await _told(self._shared.undecided, attempt)


async def _told(verb: Callable[[Attempt], Awaitable[None]], attempt: Attempt) -> None:
    with suppress(ValkeyAwayError):
        await verb(attempt)


@asynccontextmanager
async def open_guard(
    url: SecretStr, limits: GuardLimits, secret: SecretBytes
) -> AsyncIterator[tuple[LoginGuard, Sequence[DependencyCheck]]]:
    """Yield the guard in the Valkey at `url` and the check of it, which is not critical; without a url, the guard of
    this process alone.

    All replicas need the same `secret`.
    """
    own = MemoryGuard(limits)
    if not url.get_secret_value():
        yield own, ()
        return
    link = open_link(url.get_secret_value(), connections=CONNECTIONS, timeout=ANSWER_WITHIN, component="login guard")
    async with link as valkey:
        check = DependencyCheck(name="login guard", probe=valkey.answers, critical=False)
        yield DegradingGuard(ValkeyGuard(valkey, limits, secret=secret), own), [check]
