"""Refresh tokens: each is used once, and a repeat within seconds gets the same successor."""

import hashlib
import hmac
import re
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from pydantic import SecretBytes, SecretStr

from auth.caller import NOBODY, Caller
from auth.family import MOST_ROTATIONS, Ending, Families, Family, Login
from grpc_common.errors import AbortedError, RateLimitError, UnauthorizedError

DAY: Final = 24 * 3600.0
LEAST_SECRET: Final = 32
"""Bytes of a server secret."""
ATTEMPTS: Final = 100
"""How many other changes of the same family one call waits for; each of them has let another call end."""

_TOKEN: Final = re.compile(r"mrt_([0-9a-f]{32})\.(0|[1-9][0-9]{0,8})\.([A-Za-z0-9_-]{43})")


class RefreshRefusedError(UnauthorizedError):
    """The refresh token proves nothing; why is for the log and not for the caller."""

    reason = "REFRESH_TOKEN_REFUSED"

    def __init__(self) -> None:
        super().__init__("the refresh token is not accepted: log in again")


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Seconds that a family lives, that an unused token lives, and that a used one may be repeated."""

    absolute: float = 30 * DAY
    idle: float = 7 * DAY
    grace: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.grace < self.idle <= self.absolute:
            raise ValueError(
                "the grace must be shorter than the idle life of a token, and that not beyond its family's"
            )


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A token, the family it belongs to, and until when it can be used, in Unix seconds."""

    token: SecretStr
    family: Family
    expires_at: float


class RefreshTokens:
    """Begins, carries on and ends families of refresh tokens.

    A token is derived by HMAC-SHA-256 from a secret of the server, the salt of its family and its number: so the same
    use has the same answer, wherever and however often it is asked, though nothing but hashes is kept. `server_secrets`
    are of 32 bytes or more: the first makes new tokens, the others are those it replaced, kept for as long as a family
    lives. `clock` gives the Unix seconds that ages are told by, one for all replicas; `wall` those of this machine, by
    which it stamps access tokens, and so what takes them back.
    """

    def __init__(
        self,
        families: Families,
        server_secrets: Sequence[SecretBytes],
        lifetimes: Lifetimes,
        *,
        clock: Callable[[], float] = time.time,
        wall: Callable[[], float] = time.time,
    ) -> None:
        if not server_secrets or any(len(secret) < LEAST_SECRET for secret in server_secrets):
            raise ValueError(f"refresh tokens need a secret of the server of at least {LEAST_SECRET} bytes")
        self._families = families
        self._secrets = tuple(server_secrets)
        self._lifetimes = lifetimes
        self._clock = clock
        self._wall = wall
        self._log = structlog.get_logger(component="refresh")

    def draft(self, subject: str, client_id: str, scopes: Iterable[str] = ()) -> RefreshToken:
        """Return the first token of a new family, which is worth nothing until it is kept."""
        now = self._clock()
        family_id, salt = secrets.token_hex(16), secrets.token_bytes(16)
        token = _derive(self._secrets[0], family_id, salt, 0)
        family = Family(
            id=family_id,
            subject=subject,
            client_id=client_id,
            scopes=frozenset(scopes),
            salt=salt,
            token_hash=_hash(token),
            generation=0,
            created_at=now,
            rotated_at=now,
        )
        return self._issued(token, family)

    async def keep(self, draft: RefreshToken, login: Login | None = None) -> bool:
        """Begin the family of a draft; with `login`, only while its user is as it was. Say whether that was so."""
        return await self._families.add(draft.family, login)

    async def family(self, family_id: str) -> Family | None:
        """Return the family with that id, living or not."""
        return await self._families.find(family_id)

    def now(self) -> float:
        """Return the time at which a token arrives."""
        return self._clock()

    async def refresh(self, token: SecretStr, arrived: float | None = None, caller: Caller = NOBODY) -> RefreshToken:
        """Use `token` up and return its successor; within the grace of its first use, return the same one again.
        `arrived`, as `now` gave it, decides whether it came in time, however long the answer takes; None is now.

        Raises:
            RefreshRefusedError: it is no token of a living family. A token used again after its grace ends its family.
            RateLimitError: the family has had too many tokens in one grace.
            AbortedError: other calls kept changing the family.
        """
        arrived = self._clock() if arrived is None else arrived
        for _ in range(ATTEMPTS):
            family, generation = await self._prove(token)
            if self._is_over(family, arrived):
                raise self._refused("expired", family, generation)
            if generation < family.generation:
                return await self._repeat(family, generation, arrived, caller)
            if (issued := await self._rotate(family)) is not None:
                return issued
        raise AbortedError("the refresh token is in use too often: try again")

    async def find(self, token: SecretStr, arrived: float | None = None) -> Family | None:
        """Return the living family whose newest token this is, or one in its grace; None otherwise. Use up nothing;
        `arrived` is as `refresh` has it.
        """
        try:
            family, generation = await self._prove(token)
        except RefreshRefusedError:
            return None
        arrived = self._clock() if arrived is None else arrived
        counts = generation == family.generation or self._in_grace(family, generation, arrived)
        return family if counts and not self._is_over(family, arrived) else None

    async def family_of(self, token: SecretStr) -> Family | None:
        """Return the family that has, or had, this token, if it has not been revoked."""
        try:
            family, _ = await self._prove(token)
        except RefreshRefusedError:
            return None
        return family

    async def log_out(self, token: SecretStr, caller: Caller = NOBODY, *, everywhere: bool = False) -> None:
        """Revoke the family of `token`, whichever of its tokens that is, or all families of its subject; what is no
        token has nothing to revoke. One that cannot be used any more speaks for its own family alone, whoever found it.
        """
        family = await self.family_of(token)
        if family is None:
            return
        if everywhere and await self.find(token) is None:
            await self.revoke(family.id, "reused", caller)
            return
        # Who has the token is who it was given to, or else it would have to be guessed.
        caller = caller if caller.actor else caller.proved(family.subject)
        if everywhere:
            await self._families.revoke_all(family.subject, "logged_out", self._wall(), caller=caller)
        else:
            await self.revoke(family.id, "logged_out", caller)

    async def revoke(self, family_id: str, ending: Ending, caller: Caller = NOBODY) -> bool:
        """Revoke a family as `caller` asks, and say whether there was one to revoke."""
        return await self._families.revoke(family_id, ending, self._wall(), caller=caller)

    def expires_at(self, family: Family) -> float:
        """Return when the newest token of the family expires if it is not used, in Unix seconds."""
        return min(family.rotated_at + self._lifetimes.idle, family.created_at + self._lifetimes.absolute)

    async def _prove(self, token: SecretStr) -> tuple[Family, int]:
        """Return the family that is not revoked and that really had this token, and the token's number."""
        parts = _TOKEN.fullmatch(token.get_secret_value())
        if parts is None:
            raise self._refused("malformed")
        family_id, generation = parts[1], int(parts[2])
        family = await self._families.find(family_id)
        if family is None:
            raise self._refused("unknown")
        if generation > family.generation or not self._is_genuine(token, family, generation):
            raise self._refused("forged", family, generation)
        if family.revoked is not None:
            raise self._refused("revoked", family, generation)
        return family, generation

    def _is_genuine(self, token: SecretStr, family: Family, generation: int) -> bool:
        if generation == family.generation:
            return hmac.compare_digest(_hash(token), family.token_hash)
        # Nobody may end a family with a token that it never had.
        given = token.get_secret_value().encode()
        derived = (_derive(secret, family.id, family.salt, generation) for secret in self._secrets)
        return any(hmac.compare_digest(given, each.get_secret_value().encode()) for each in derived)

    async def _repeat(self, family: Family, generation: int, arrived: float, caller: Caller) -> RefreshToken:
        if not self._in_grace(family, generation, arrived):
            await self.revoke(family.id, "reused", caller)
            raise self._refused("reused", family, generation)
        if generation + 1 == family.generation:
            return self._issued(self._newest(family), family)
        # Its successor has been used as well, and is in its grace like all that came after it.
        return self._issued(_derive(self._secrets[0], family.id, family.salt, generation + 1), family)

    async def _rotate(self, family: Family) -> RefreshToken | None:
        """Return the next token; None when another call has changed the family meanwhile."""
        now = self._clock()
        recent = [moment for moment in family.used_at if now - moment < self._lifetimes.grace]
        if len(recent) >= MOST_ROTATIONS:
            raise RateLimitError("too many refreshes", retry_after=self._lifetimes.grace)
        token = _derive(self._secrets[0], family.id, family.salt, family.generation + 1)
        changed = family.rotated(_hash(token), now, self._lifetimes.grace)
        return self._issued(token, changed) if await self._families.replace(changed) else None

    def _newest(self, family: Family) -> SecretStr:
        """Derive the newest token again, with the secret that it was made with."""
        for secret in self._secrets:
            token = _derive(secret, family.id, family.salt, family.generation)
            if hmac.compare_digest(_hash(token), family.token_hash):
                return token
        raise self._refused("secret_gone", family, family.generation)

    def _in_grace(self, family: Family, generation: int, now: float) -> bool:
        first_use = family.first_use(generation)
        return first_use is not None and now - first_use < self._lifetimes.grace

    def _is_over(self, family: Family, now: float) -> bool:
        return now >= self.expires_at(family)

    def _issued(self, token: SecretStr, family: Family) -> RefreshToken:
        return RefreshToken(token, family, self.expires_at(family))

    def _refused(self, reason: str, family: Family | None = None, generation: int | None = None) -> RefreshRefusedError:
        if family is not None:
            tell = self._log.warning if reason == "reused" else self._log.info
            tell("refresh refused", reason=reason, family=family.id, subject=family.subject, generation=generation)
        return RefreshRefusedError()


def _derive(secret: SecretBytes, family_id: str, salt: bytes, generation: int) -> SecretStr:
    """Return the token of that number; every input has a fixed length, so that no two sets of them read the same."""
    said = bytes.fromhex(family_id) + salt + generation.to_bytes(8)
    proof = urlsafe_b64encode(hmac.digest(secret.get_secret_value(), said, "sha256")).rstrip(b"=").decode()
    return SecretStr(f"mrt_{family_id}.{generation}.{proof}")


def _hash(token: SecretStr) -> bytes:
    # The token has 256 bits nobody can guess: it needs no slow hash.
    return hashlib.sha256(token.get_secret_value().encode()).digest()
