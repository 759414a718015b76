"""A family of refresh tokens: all that follow, one after the other, from one login."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol, Self

from auth.audit import SecurityEvent
from auth.caller import NOBODY, Caller
from auth.client import Client
from auth.user import User

type Ending = Literal[
    "logged_out",
    "reused",
    "password_changed",
    "administrator",
    "disabled",
    "roles_removed",
    "client_deleted",
    "all_ended",
]
"""Why a family was revoked."""

MOST_ROTATIONS: Final = 64
"""How many rotations within the grace a family remembers, and so how many it allows."""


@dataclass(frozen=True, slots=True)
class Family:
    """What is kept of a family: never a token, only the hash of the newest. Times are Unix seconds.

    Its tokens are numbered from 0; `generation` is the newest one's number.
    """

    id: str
    subject: str
    client_id: str
    scopes: AbstractSet[str]
    salt: bytes = field(repr=False)
    """Part of what its tokens are derived from, so that the server's secret alone makes none."""
    token_hash: bytes = field(repr=False)
    """SHA-256 of the newest token."""
    generation: int
    created_at: float
    rotated_at: float
    """When the newest token was made."""
    used_at: tuple[float, ...] = ()
    """When the latest tokens before the newest one were first used, oldest first: all that are in their grace at
    least."""
    revoked: Ending | None = None

    def first_use(self, generation: int) -> float | None:
        """Return when the token of that number was first used; None when it is not, or was long ago."""
        back = self.generation - generation
        return self.used_at[-back] if 0 < back <= len(self.used_at) else None

    def rotated(self, token_hash: bytes, now: float, grace: float) -> Self:
        """Return the family with one more token, made at `now`, or at the last one's time where that is later."""
        now = max(now, self.rotated_at)  # replicas' clocks differ; the times of a family must not go back
        recent = tuple(moment for moment in self.used_at if now - moment < grace)
        return replace(
            self,
            token_hash=token_hash,
            generation=self.generation + 1,
            rotated_at=now,
            used_at=(*recent, now),
        )


@dataclass(frozen=True, slots=True)
class Login:
    """How a family began: the user and the client as they were when they proved themselves, and the event that tells
    of it. The first party has no client.
    """

    user: User
    event: SecurityEvent
    client: Client | None = None


class Families(Protocol):
    """Where families are kept. Each method is one transaction."""

    async def add(self, family: Family, login: Login | None = None) -> bool:
        """Keep a new family; there is none with its id. With `login`, only if its user and its client are still as
        they were proved, and with the event that tells of it; say whether that was so.
        """
        ...

    async def find(self, family_id: str) -> Family | None:
        """Return the family, revoked or not."""
        ...

    async def replace(self, family: Family) -> bool:
        """Keep `family` if what is kept is of the generation before it and is not revoked; say whether that was so."""
        ...

    async def revoke(self, family_id: str, ending: Ending, at: float, *, caller: Caller = NOBODY) -> bool:
        """Revoke the family, and say whether it was there and not revoked before; its first ending stays.

        All services are told of it, and who has ended it, so that its access tokens end as well.
        """
        ...

    async def revoke_all(
        self, subject: str, ending: Ending, at: float, *, keep: str = "", caller: Caller = NOBODY
    ) -> int:
        """Revoke all families of the subject but `keep`, an id; return how many were not revoked before."""
        ...

    async def forget(self, before: float, limit: int) -> int:
        """Forget up to `limit` families whose newest token was made before that time; return how many."""
        ...
