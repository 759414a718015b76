"""Which version of the signing key is used when: published before it signs, and as long as what it signed lives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from auth.signer import PublicKey

DAY: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class KeySchedule:
    """All times are in seconds.

    A version is made every `period`. It is published at once and signs from `ahead` seconds later on: then every
    verifier has it, also one that reads the keys now and then and not when it meets a new name. A replica that learns
    of it late, because the signer was out of reach, publishes it for as long before it signs with it, but goes on with
    the one before for no longer than another `ahead`. A version is published until the last of its tokens, of
    `lifetime`, has expired for a verifier whose clock is `leeway` behind, whichever replica signed it.
    """

    period: float = 30 * DAY
    ahead: float = 600.0
    lifetime: float = 900.0
    leeway: float = 120.0

    def __post_init__(self) -> None:
        if min(self.ahead, self.lifetime, self.leeway) < 0 or self.period <= self.ahead:
            raise ValueError("a key must be made less often than it takes until it signs, and no time can be below 0")

    def starts(self, version: PublicKey, late: float = 0) -> float:
        """Return when a version begins to sign, in Unix seconds, where it was published `late`; the first of all need
        not wait.
        """
        return version.made_at + min(late, self.ahead) + self.ahead

    def signing(self, versions: Sequence[PublicKey], now: float, late: Mapping[str, float]) -> PublicKey:
        """Return the version to sign with at `now`; `versions` are oldest first, and the first of all need not wait.

        `late` has by how much this replica published them late, by their kid.
        """
        ready = [version for version in versions if self.starts(version, late.get(version.kid, 0)) <= now]
        return ready[-1] if ready else versions[0]

    def published(self, versions: Sequence[PublicKey], now: float) -> list[PublicKey]:
        """Return the versions that are published at `now`, oldest first."""
        ends = [self.starts(successor, self.ahead) + self.lifetime + self.leeway for successor in versions[1:]]
        return [version for version, end in zip(versions, [*ends, float("inf")], strict=True) if now < end]

    def due(self, versions: Sequence[PublicKey], now: float) -> bool:
        """Say whether the next version is to be made."""
        return versions[-1].made_at + self.period <= now
