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
        self._recognised = script(guard_scripts.RECOGNISED)
        self._undecided = script(guard_scripts.UNDECIDED)
        self._at_home = script(guard_scripts.AT_HOME)
        self._take = script(guard_scripts.TAKE)
        self._give = script(guard_scripts.GIVE)

    async def enter(self, attempt: Attempt) -> bool:
        """Say whether the account may be tried, and count the try as a failure until it is known to be none."""
        keys, values = self._tries(attempt)
        asked = attempt.account and attempt.address and not attempt.session
        at_home = bool(asked) and bool(await self._link.ask(lambda: self._at_home(keys, values)))
        if _counts_for_address(attempt, at_home=at_home):
            bucket, limits = self._bucket(attempt)
            wait = float(await self._link.ask(lambda: self._take(bucket, limits)))
            if wait:
                raise RateLimitError("too many logins from this address", retry_after=wait)
        if not attempt.account:
            return True
        answer = await self._link.ask(lambda: self._enter(keys, values))
        if answer == b"busy":
            await self._give_back(attempt, at_home=at_home)
            raise RateLimitError("too many logins to this account at once", retry_after=BUSY)
        return bool(answer == b"open")

    async def failed(self, attempt: Attempt) -> None:
        """Have those who come find the account locked, if this was its last try."""
        if attempt.account:
            keys, values = self._tries(attempt)
            await self._link.ask(lambda: self._failed(keys, values))

    async def succeeded(self, attempt: Attempt) -> None:
        """Forget the failures, and know the address for one of the account's own."""
        at_home = False
        if attempt.account:
            keys, values = self._tries(attempt)
            at_home = await self._link.ask(lambda: self._succeeded(keys, [*values, *self._known(attempt)]))
        await self._give_back(attempt, at_home=bool(at_home))

    async def recognised(self, attempt: Attempt) -> None:
        """Know the address for one of the account's own."""
        if attempt.account and attempt.address:
            keys, values = self._tries(attempt)
            await self._link.ask(lambda: self._recognised(keys, [*values, *self._known(attempt)]))

    async def undecided(self, attempt: Attempt) -> None:
        """Take the try back."""
        at_home = False
        if attempt.account:
            keys, values = self._tries(attempt)
            at_home = await self._link.ask(lambda: self._undecided(keys, values))
        await self._give_back(attempt, at_home=bool(at_home))

    async def _give_back(self, attempt: Attempt, *, at_home: bool) -> None:
        if _counts_for_address(attempt, at_home=at_home):
            keys, values = self._bucket(attempt)
            await self._link.ask(lambda: self._give(keys, values))

    def _known(self, attempt: Attempt) -> list[str | int]:
        return [repr(self._limits.known), _milliseconds(self._limits.known)] if attempt.address else ["", ""]

    def _tries(self, attempt: Attempt) -> tuple[list[str], list[str | int]]:
        """The keys of an account, in one slot of a cluster, and what the scripts want to know."""
        limits = self._limits
        account, network = self._hidden(attempt.account), self._hidden(network_of(attempt.address))
        own = self._hidden(f"session {attempt.session}") if attempt.session else network
        keys = [f"auth:guard:{{{account}}}:{what}" for what in ("tries", f"tries:{own}", f"known:{network}")]
        numbers = (limits.forgotten, limits.failures, limits.pause, limits.longest_pause)
        kind = "session" if attempt.session else ""
        return keys, [self._now(), *map(repr, numbers), _milliseconds(limits.forgotten), kind]

    def _bucket(self, attempt: Attempt) -> tuple[list[str], list[str | int]]:
        rate, burst = self._limits.address_rate, self._limits.address_burst
        what = "bucket" if attempt.account else "clients"
        key = f"auth:guard:{{{self._hidden(network_of(attempt.address))}}}:{what}"
        return [key], [self._now(), repr(rate), burst, _milliseconds(burst / rate)]

    def _now(self) -> str:
        return "" if self._clock is None else repr(self._clock())

    def _hidden(self, text: str) -> str:
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=self._key, digest_size=16).hexdigest()


def _counts_for_address(attempt: Attempt, *, at_home: bool) -> bool:
    """Whether the try takes of what its address may do, or has taken."""
    return bool(attempt.address) and not attempt.session and not at_home


def _milliseconds(seconds: float) -> int:
    return round((seconds + SLACK) * 1000)
