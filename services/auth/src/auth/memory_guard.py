"""The login guard of one process alone."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from auth.guard import Attempt
from auth.guard_limits import GuardLimits
from grpc_common.client_address import network_of
from grpc_common.errors import RateLimitError
from grpc_common.interceptors.rate_limit import Buckets
from grpc_common.policy import Rate

MOST_ACCOUNTS: Final = 10_000
BUSY: Final = 1.0
"""Seconds after which to come back when the last try that an account had is not judged yet."""


@dataclass(frozen=True, slots=True)
class _Tries:
    """Tries in a row that were not right, or not yet; when the last began, and whether it is known to be wrong."""

    number: int
    at: float
    judged: bool


class MemoryGuard:
    """A LoginGuard that knows what this process has seen, of the accounts that were tried last.

    `clock` gives seconds; it may begin anywhere and never goes back.
    """

    def __init__(self, limits: GuardLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._addresses = Buckets(Rate(limits.address_rate, limits.address_burst), clock)
        self._addresses_of_clients = Buckets(Rate(limits.address_rate, limits.address_burst), clock)
        self._tries: OrderedDict[tuple[str, str], _Tries] = OrderedDict()
        """By account and, where it counts by itself, an address of the account's own or a session."""
        self._known: OrderedDict[tuple[str, str], float] = OrderedDict()
        """Until when an address is one of the account's own."""

    async def enter(self, attempt: Attempt) -> bool:
        """Say whether the account may be tried, and count the try as a failure until it is known to be none."""
        counts = self._counts_for_address(attempt)
        if counts and (wait := self._buckets(attempt).take(network_of(attempt.address))):
            raise RateLimitError("too many logins from this address", retry_after=wait)
        if not attempt.account:
            return True
        scope, now = self._scope(attempt), self._clock()
        tries = self._find(scope, now)
        if now - tries.at < self._limits.pause_after(tries.number):
            if tries.judged:
                return False
            if counts:
                self._give_back(attempt)
            raise RateLimitError("too many logins to this account at once", retry_after=BUSY)
        _keep(self._tries, scope, _Tries(tries.number + 1, now, judged=False))
        return True

    async def failed(self, attempt: Attempt) -> None:
        """Have those who come find the account locked, if this was its last try."""
        scope = self._scope(attempt)
        tries = self._find(scope, self._clock())
        if tries.number >= self._limits.failures:
            _keep(self._tries, scope, _Tries(tries.number, tries.at, judged=True))

    async def succeeded(self, attempt: Attempt) -> None:
        """Forget the failures, and know the address for one of the account's own."""
        self._tries.pop(self._scope(attempt), None)
        if self._counts_for_address(attempt):
            self._give_back(attempt)
        await self.recognised(attempt)

    async def recognised(self, attempt: Attempt) -> None:
        """Know the address for one of the account's own."""
        network = network_of(attempt.address)
        if network and attempt.account:
            _keep(self._known, (attempt.account, network), self._clock() + self._limits.known)

    async def undecided(self, attempt: Attempt) -> None:
        """Take the try back."""
        if self._counts_for_address(attempt):
            self._give_back(attempt)
        scope = self._scope(attempt)
        tries = self._find(scope, self._clock())
        if tries.number > 1:
            _keep(self._tries, scope, _Tries(tries.number - 1, tries.at, judged=True))
        else:
            self._tries.pop(scope, None)

    def _scope(self, attempt: Attempt) -> tuple[str, str]:
        """What the try is counted under."""
        if attempt.session:
            return attempt.account, f"session {attempt.session}"
        return attempt.account, network_of(attempt.address) if self._is_at_home(attempt) else ""

    def _is_at_home(self, attempt: Attempt) -> bool:
        own = attempt.account, network_of(attempt.address)
        return self._known.get(own, -math.inf) > self._clock()

    def _counts_for_address(self, attempt: Attempt) -> bool:
        """Whether the try takes of what its address may do, or has taken."""
        return bool(attempt.address) and not attempt.session and not self._is_at_home(attempt)

    def _buckets(self, attempt: Attempt) -> Buckets:
        return self._addresses if attempt.account else self._addresses_of_clients

    def _give_back(self, attempt: Attempt) -> None:
        self._buckets(attempt).give(network_of(attempt.address))

    def _find(self, scope: tuple[str, str], now: float) -> _Tries:
        tries = self._tries.get(scope)
        if tries is None or now - tries.at >= self._limits.forgotten:
            return _Tries(0, now, judged=False)
        return tries


def _keep[V](kept: OrderedDict[tuple[str, str], V], scope: tuple[str, str], value: V) -> None:
    """Keep it as the newest one, and forget the oldest one when there are too many."""
    kept[scope] = value
    kept.move_to_end(scope)
    if len(kept) > MOST_ACCOUNTS:
        kept.popitem(last=False)
