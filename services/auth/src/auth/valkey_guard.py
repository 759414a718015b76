"""The login guard that all replicas share, in Valkey."""

import hashlib
from collections.abc import Callable
from typing import Final

from pydantic import SecretBytes

from auth import guard_scripts
from auth.guard import Attempt
from auth.guard_limits import GuardLimits
from auth.memory_guard import BUSY
from grpc_common.client_address import network_of
from grpc_common.errors import RateLimitError
from grpc_common.valkey_link import ValkeyLink

SLACK: Final = 60.0
"""Seconds that what no longer matters is kept."""


class ValkeyGuard:
    """A LoginGuard whose replicas agree, by the time of Valkey; every verb raises ValkeyAwayError without Valkey.

    No name and no address is in Valkey: keys are named by hashes, which `secret` keeps from being guessed. `clock`, for
    tests, gives the Unix seconds that count instead of Valkey's.
    """

    def __init__(
        self, link: ValkeyLink, limits: GuardLimits, *, secret: SecretBytes, clock: Callable[[], float] | None = None
    ) -> None:
        self._link = link
        self._limits = limits
        self._key = hashlib.sha256(secret.get_secret_value()).digest()
        self._clock = clock
        script = link.client.register_script
        self._enter = script(guard_scripts.ENTER)
        self._failed = script(guard_scripts.FAILED)
        self._succeeded = script(guard_scripts.SUCCEEDED)
        self._undecided = script(guard_scripts.UNDECIDED)
        self._take = script(guard_scripts.TAKE)
        self._give = script(guard_scripts.GIVE)

    async def enter(self, attempt: Attempt) -> bool:
        """Say whether the account may be tried, and count the try as a failure until it is known to be none."""
        network = network_of(attempt.address)
        if network:
            keys, values = self._bucket(network)
            wait = float(await self._link.ask(lambda: self._take(keys, values)))
            if wait:
                raise RateLimitError("too many logins from this address", retry_after=wait)
        if not attempt.account:
            return True
        keys, values = self._tries(attempt)
        answer = await self._link.ask(lambda: self._enter(keys, values))
        if answer == b"busy":
            await self._give_back(attempt)
            raise RateLimitError("too many logins to this account at once", retry_after=BUSY)
        return bool(answer == b"open")

    async def failed(self, attempt: Attempt) -> None:
        """Have those who come find the account locked, if this was its last try."""
        if attempt.account:
            keys, values = self._tries(attempt)
            await self._link.ask(lambda: self._failed(keys, values))

    async def succeeded(self, attempt: Attempt) -> None:
        """Forget the failures, and know the address for one of the account's own."""
        await self._give_back(attempt)
        if attempt.account:
            keys, values = self._tries(attempt)
            known = [repr(self._limits.known), _milliseconds(self._limits.known)] if attempt.address else ["", ""]
            await self._link.ask(lambda: self._succeeded(keys, [*values, *known]))

    async def undecided(self, attempt: Attempt) -> None:
        """Take the try back."""
        await self._give_back(attempt)
        if attempt.account:
            keys, values = self._tries(attempt)
            await self._link.ask(lambda: self._undecided(keys, values))

    async def _give_back(self, attempt: Attempt) -> None:
        if network := network_of(attempt.address):
            keys, values = self._bucket(network)
            await self._link.ask(lambda: self._give(keys, values))

    def _tries(self, attempt: Attempt) -> tuple[list[str], list[str | int]]:
        """The keys of an account, in one slot of a cluster, and what the scripts want to know."""
        limits = self._limits
        account, network = self._hidden(attempt.account), self._hidden(network_of(attempt.address))
        keys = [f"auth:guard:{{{account}}}:{what}" for what in ("tries", f"tries:{network}", f"known:{network}")]
        numbers = (limits.forgotten, limits.failures, limits.pause, limits.longest_pause)
        return keys, [self._now(), *map(repr, numbers), _milliseconds(limits.forgotten)]

    def _bucket(self, network: str) -> tuple[list[str], list[str | int]]:
        rate, burst = self._limits.address_rate, self._limits.address_burst
        key = f"auth:guard:{{{self._hidden(network)}}}:bucket"
        return [key], [self._now(), repr(rate), burst, _milliseconds(burst / rate)]

    def _now(self) -> str:
        return "" if self._clock is None else repr(self._clock())

    def _hidden(self, text: str) -> str:
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._key, digest_size=16).hexdigest()


def _milliseconds(seconds: float) -> int:
    return round((seconds + SLACK) * 1000)
