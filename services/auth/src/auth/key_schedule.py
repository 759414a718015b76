"""Which version of the signing key is used when: published before it signs, and as long as what it signed lives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from auth.signer import PublicKey

DAY: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class KeySchedule:
    """All times are in seconds. What it says follows from the versions and the time alone: all replicas say the same.

    A version is made every `period`. It is published at once and signs from `ahead` seconds later on: then every
    verifier has it, also one that reads the keys now and then and not when it meets a new name. It is published until
    the last of its tokens, of `lifetime`, has expired for a verifier whose clock is `leeway` behind.
    """

    period: float = 30 * DAY
    ahead: float = 600.0
    lifetime: float = 900.0
    leeway: float = 120.0

    def __post_init__(self) -> None:
        if min(self.ahead, self.lifetime, self.leeway) < 0 or self.period <= self.ahead:
            raise ValueError("a key must be made less often than it takes until it signs, and no time can be below 0")

    def starts(self, version: PublicKey) -> float:
        """Return when a version begins to sign, in Unix seconds; the first of all need not wait."""
        return version.made_at + self.ahead

    def signing(self, versions: Sequence[PublicKey], now: float) -> PublicKey:
        """Return the version to sign with at `now`; `versions` are oldest first, and the first of all need not wait."""
        ready = [version for version in versions if self.starts(version) <= now]
        return ready[-1] if ready else versions[0]

    def published(self, versions: Sequence[PublicKey], now: float) -> list[PublicKey]:
        """Return the versions that are published at `now`, oldest first."""
        ends = [self.starts(successor) + self.lifetime + self.leeway for successor in versions[1:]]
        return [version for version, end in zip(versions, [*ends, float("inf")], strict=True) if now < end]

    def due(self, versions: Sequence[PublicKey], now: float) -> bool:
        """Say whether the next version is to be made."""
        return versions[-1].made_at + self.period <= now
