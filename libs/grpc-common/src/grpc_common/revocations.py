"""Tokens taken back before their time, one by one or all of a login."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from grpc_common.claims import LEEWAY
from grpc_common.principal import Principal

DAY: Final = 24 * 3600.0
_NEVER: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class Revocation:
    """A token (its `jti`) or a session (its `sid`) that was taken back."""

    id: str
    expires_at: float
    """When the last token it is about expires, in Unix seconds; the leeway of verifiers comes on top."""


@dataclass(frozen=True, slots=True)
class IssuedUntil:
    """All tokens that were issued at or before a moment, in Unix seconds, were taken back."""

    moment: float


type TakenBack = Revocation | IssuedUntil

type Restore = Callable[[], Awaitable[Iterable[TakenBack]]]
"""Returns what was taken back of late, from a place that forgets nothing."""


class Revocations:
    """The tokens and sessions that count no more although they have not expired; it never grows beyond `capacity`.

    A revocation is forgotten once no token it is about can be alive. Were there more than `capacity` of them, the
    oldest makes room in the safe direction: every token issued until then is revoked with it, and its holder must log
    in again. For one event loop; `clock` gives Unix seconds.
    """

    def __init__(self, capacity: int = 65_536, *, clock: Callable[[], float] = time.time) -> None:
        self._capacity = capacity
        self._clock = clock
        self._revoked: OrderedDict[str, tuple[float, float]] = OrderedDict()  # when revoked, when forgotten
        self._issued_until = _NEVER
        self._watches: dict[str, set[_Watch]] = {}

    def __len__(self) -> int:
        return len(self._revoked)

    def revoke(self, identifier: str, expires_at: float | None = None) -> None:
        """Take back the token with that `jti`, or all with that `sid`; an empty one, which many tokens have, takes back
        none. `expires_at` is when the last of them expires, in Unix seconds, and a day from now where unknown.
        """
        now = self._clock()
        forget_at = (now + DAY if expires_at is None else expires_at) + LEEWAY  # as long as verifiers accept them
        if not identifier or forget_at <= now:
            return
        # Who hears of it again, as of an old entry when a stream is read anew, knows since when, and forgets nothing.
        since, until = self._revoked.get(identifier, (now, forget_at))
        self._revoked[identifier] = since, max(until, forget_at)
        self._make_room(now)
        for watch in tuple(self._watches.get(identifier, ())):
            watch.end()

    @property
    def issued_until(self) -> float:
        """The moment until which all tokens were taken back, in Unix seconds; minus infinity where none were."""
        return self._issued_until

    def take(self, taken_back: TakenBack) -> None:
        """Take back what somebody else has."""
        match taken_back:
            case Revocation(identifier, expires_at):
                self.revoke(identifier, expires_at)
            case IssuedUntil(moment):
                self.revoke_issued_until(moment)

    def revoke_issued_until(self, moment: float) -> None:
        """Take back every token issued at or before `moment`, in Unix seconds, and every one that does not say when."""
        if moment <= self._issued_until:
            return
        self._issued_until = moment
        for watch in {watch for watches in self._watches.values() for watch in watches}:
            if self.covers(watch.principal):
                watch.end()

    def covers(self, principal: Principal) -> bool:
        """Say whether what proved the principal has been taken back."""
        revoked = self._revoked
        if principal.token_id in revoked or principal.session_id in revoked:
            return True
        if self._issued_until == _NEVER:
            return False
        return principal.issued_at is None or principal.issued_at <= self._issued_until

    def watching(self, principal: Principal, end: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `end` as soon as the principal's token or session is taken back, as long as the block runs."""
        return _Watch(self._watches, principal, end)

    def _make_room(self, now: float) -> None:
        # Two at a time outrun the one that was added, and keep the work of one revocation bounded.
        for _ in range(2):
            identifier, (revoked_at, forget_at) = next(iter(self._revoked.items()))
            if forget_at > now and len(self._revoked) <= self._capacity:
                return
            del self._revoked[identifier]
            if forget_at > now:
                self.revoke_issued_until(revoked_at)
            if not self._revoked:
                return


class _Watch:
    __slots__ = ("_all", "end", "principal")

    def __init__(self, everyone: "dict[str, set[_Watch]]", principal: Principal, end: Callable[[], None]) -> None:
        self._all = everyone
        self.principal = principal
        self.end = end

    def __enter__(self) -> None:
        for identifier in self._identifiers():
            self._all.setdefault(identifier, set()).add(self)

    def __exit__(self, *_: object) -> None:
        for identifier in self._identifiers():
            watches = self._all[identifier]
            watches.remove(self)
            if not watches:
                del self._all[identifier]

    def _identifiers(self) -> set[str]:
        return {self.principal.token_id, self.principal.session_id}  # an empty one is there for revoke_issued_until
