"""Signs with the version of the key whose turn it is, and publishes those that verify."""

import asyncio
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context
from typing import Any, Final

import structlog

from auth.key_schedule import KeySchedule
from auth.signer import PublicKey, Signer, SignerError
from grpc_common.errors import ExternalServiceError
from grpc_common.jwk_set import VerifyingKey

REFRESH: Final = 60.0
COOL_DOWN: Final = 2.0
AGAIN: Final = 10.0
"""Seconds between two looks for a key that some token names and nobody knows."""
PATIENCE: Final = 0.5
"""Seconds that a call which has keys waits for newer ones: a signer that hangs does not hold up those who verify."""
TYPE: Final = "at+jwt"
AWAY: Final = "tokens cannot be signed just now"
NOT_READ: Final = "signing keys not read; those known go on"
GONE: Final = "signing keys are gone: what they signed is refused"


class KeyRing:
    """The versions of a signer's key, read again every `refresh` seconds; `clock` gives Unix seconds.

    While the signer is out of reach, does not answer or refuses, the keys it had go on being published. It is asked
    again after COOL_DOWN seconds, by one call for all.

    Name and version do not name a key: one that was restored, or destroyed and made anew, has those of the one before
    it. So keys are told apart by their thumbprints, and no token goes out but with a signature that the published key
    verifies.
    """

    def __init__(
        self,
        signer: Signer,
        schedule: KeySchedule,
        *,
        refresh: float = REFRESH,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if schedule.ahead <= refresh:
            raise ValueError("a new key must be published for longer than it takes until all replicas have read it")
        self._signer = signer
        self._schedule = schedule
        self._refresh = refresh
        self._clock = clock
        self._versions: Sequence[PublicKey] = ()
        self._verifying: dict[str, VerifyingKey] = {}
        self._late: dict[str, float] = {}
        self._asked = self._answered = 0
        self._read_at = self._ask_at = self._looked_at = float("-inf")
        self._mending = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._log = structlog.get_logger(component="keys", key=signer.name)

    async def sign(self, claims: Mapping[str, Any]) -> str:
        """Return the claims as a signed access token (RFC 7515 §3.1, RFC 9068 §2.1).

        Raises:
            ExternalServiceError: the signer is out of reach or refuses, or did so for so long that there may be a newer
                key.
        """
        with self._told_to_operators():
            known = self._answered
            try:
                return await self._signed(claims)
            except SignerError as error:
                self._log.warning("signing keys are read again", reason=str(error))
                await self._read_since(known)
                return await self._signed(claims)

    async def jwk_set(self) -> dict[str, list[dict[str, str]]]:
        """Return the JWKS document (RFC 7517 §5) of all keys whose tokens may be alive, and of the next one.

        Raises:
            ExternalServiceError: the signer is out of reach or refuses, and never told its keys before.
        """
        marks = {"alg": self._signer.algorithm, "use": "sig"}
        return {"keys": [{**key.jwk, "kid": key.kid, **marks} for key in await self._published()]}

    async def verifying(self, kid: str) -> VerifyingKey | None:
        """Return the published key of that name, None when there is none; raises as `jwk_set` does."""
        published = await self._published()
        return self._verifying[kid] if any(key.kid == kid for key in published) else None

    async def look_again(self) -> None:
        """Read the keys before it is time to, but not again within AGAIN seconds; what is wrong is for the log."""
        now = self._clock()
        if now - self._looked_at >= AGAIN:
            self._looked_at = now
            self._start_reading()
        if (reading := self._reading) is not None:
            await asyncio.wait([reading], timeout=PATIENCE)

    async def answers(self) -> bool:
        """Ask the signer, for the health of the service."""
        await self._read()
        return True

    async def rotate(self) -> tuple[str, float]:
        """Make the next version, whether it is due or not; return its kid, and when it signs, in Unix seconds.

        Raises:
            ExternalServiceError: the signer is out of reach or refuses.
        """
        with self._told_to_operators():
            await self._make_next()
        newest = self._versions[-1]
        return newest.kid, self._schedule.starts(newest)

    async def upkeep(self) -> None:
        """Make the next version when it is due, and destroy those that nothing alive was signed with.

        Replicas that do it at the same moment make a version more than needed, which does no harm.

        Raises:
            ExternalServiceError: the signer is out of reach.
            SignerError: the signer refuses.
        """
        await self._read()
        if self._schedule.due(self._versions, self._clock()):
            await self._make_next()
        oldest = self._schedule.published(self._versions, self._clock())[0].version
        if oldest != self._versions[0].version:
            await self._signer.retire(oldest)
            await self._read()

    async def _make_next(self) -> None:
        await self._signer.rotate()
        await self._read()

    @contextmanager
    def _told_to_operators(self) -> Iterator[None]:
        """Callers can only wait for what the signer refuses: why it does is for those who can mend it."""
        try:
            yield
        except SignerError as error:
            self._log.error("the signer refuses", reason=str(error))
            raise ExternalServiceError(AWAY) from error

    async def _signed(self, claims: Mapping[str, Any]) -> str:
        versions = await self._known()
        now = self._clock()
        if now - self._read_at >= self._schedule.ahead:
            raise ExternalServiceError(AWAY)
        key = self._schedule.signing(versions, now, self._late)
        verifying = self._verifying[key.kid]
        header = {"alg": self._signer.algorithm, "kid": key.kid, "typ": TYPE}
        text = f"{_part(_json(header))}.{_part(_json(claims))}"
        signature = await self._signer.sign(key.version, text.encode())
        if not verifying.verify(text.encode(), signature):
            raise SignerError(
                f"version {key.version} of {self._signer.name} is not the key {key.kid} that is published"
            )
        return f"{text}.{_part(signature)}"

    async def _read_since(self, answered: int) -> None:
        """Read the keys, unless another call has done so since that answer."""
        async with self._mending:
            if self._answered == answered:
                await self._read()

    async def _published(self) -> Sequence[PublicKey]:
        return self._schedule.published(await self._known(), self._clock())

    async def _known(self) -> Sequence[PublicKey]:
        if self._is_stale():
            self._start_reading()
        if (reading := self._reading) is not None:
            # A call that gives up must not take the answer from the others.
            await asyncio.wait([reading], timeout=PATIENCE if self._versions else None)
        if not self._versions:
            raise ExternalServiceError(AWAY)
        return self._versions

    def _is_stale(self) -> bool:
        now = self._clock()
        return now - self._read_at >= self._refresh and now >= self._ask_at

    def _start_reading(self) -> None:
        if self._reading is None:
            # Not part of the call that happens to be first: neither its trace nor its deadline.
            self._reading = asyncio.get_running_loop().create_task(self._read_or_keep(), context=Context())

    async def _read_or_keep(self) -> None:
        try:
            await self._read()
        except Exception as error:  # noqa: BLE001  # whatever is wrong with the signer, verifiers need what is known
            self._ask_at = self._clock() + COOL_DOWN
            tell = self._log.warning if isinstance(error, ExternalServiceError) else self._log.error
            tell(NOT_READ, known=len(self._versions), reason=f"{type(error).__name__}: {error}")
        finally:
            self._reading = None

    async def _read(self) -> None:
        self._asked += 1
        question, asked_at = self._asked, self._clock()
        versions = await self._signer.versions()
        if question < self._answered:  # what was asked later is known already
            return
        self._late = {version.kid: self._lateness(version) for version in versions}
        self._retire_all_but(versions)
        self._versions, self._read_at, self._answered = versions, asked_at, question

    def _retire_all_but(self, versions: Sequence[PublicKey]) -> None:
        """Keep the keys of these versions as they are; what others have proved is no longer proved."""
        known, algorithm = self._verifying, self._signer.algorithm
        self._verifying = {
            each.kid: known.get(each.kid) or VerifyingKey(each.kid, algorithm, each.jwk) for each in versions
        }
        gone = known.keys() - self._verifying.keys()
        for kid in gone:
            known[kid].retired = True
        published = self._schedule.published(self._versions, self._clock()) if gone else ()
        if missed := [key.kid for key in published if key.kid in gone]:
            self._log.warning(GONE, kids=missed)

    def _lateness(self, version: PublicKey) -> float:
        """By how much later this ring learnt of a version than one does who reads the keys when it is time to."""
        if version.kid in self._late:
            return self._late[version.kid]
        late = max(0, self._clock() - version.made_at - self._refresh)
        if self._versions:  # those that were there before this process did not come late
            self._log.info("signing key published", kid=version.kid, seconds_late=round(late, 3))
        return late


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _part(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
