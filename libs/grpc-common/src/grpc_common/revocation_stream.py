"""What is taken back before its time, told to all services through a stream in Valkey."""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Self

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from grpc_common.background import background
from grpc_common.claims import YEAR_10000
from grpc_common.errors import ExternalServiceError
from grpc_common.health.check import DependencyCheck
from grpc_common.revocations import IssuedUntil, Restore, Revocation, Revocations, TakenBack

KEY: Final = "meshwork:revocations"
KEPT: Final = 1_200.0
"""Seconds an entry is kept: longer than an access token lives (900), the leeway of verifiers and an error of clocks."""
ID_MAX: Final = 256
PAGE: Final = 1_000
CONNECTIONS: Final = 10
QUIET: Final = 2.0
"""Seconds without an entry after which a reader makes sure that the stream is still the one it read."""
TIMEOUT: Final = 1.0
"""Seconds that a connection may take, and an answer."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds before a reader that failed tries again; each failure that follows doubles them."""
CAUGHT_UP_WITHIN: Final = 2.0
"""Seconds that a process waits at its start to know what was taken back; then it serves all the same."""

_BEGINNING: Final = b"0-0"

type _Entry = tuple[bytes, Mapping[bytes, bytes]]


class RevocationStream:
    """The stream in the Valkey at `redis://…`, `rediss://…` or `unix://…`, whether or not that answers; for one block.

    Who publishes must be allowed XADD and XTRIM of the key `meshwork:revocations`, who follows XREAD and XRANGE.
    """

    def __init__(self, url: str) -> None:
        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
        # What no URL shall change: a connection that waits for entries must be more patient than the wait is long, and
        # answers have the shape that is read here.
        self._pool.connection_kwargs.update(socket_timeout=QUIET + TIMEOUT, decode_responses=False)
        self._pool.connection_kwargs.pop("protocol", None)
        self._client = Redis(connection_pool=self._pool)
        self._position = _BEGINNING
        self._follows = False
        self._caught_up = asyncio.Event()
        self._restoring: asyncio.Task[None] | None = None
        self._log = structlog.get_logger(component="revocations")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()
        await self._pool.disconnect()

    async def publish(self, identifier: str, expires_at: float) -> None:
        """Take back the token with that `jti`, or all with that `sid`, everywhere; to do it again does no harm.
        `expires_at` is when the last of them expires, in Unix seconds; the leeway of verifiers comes on top.

        Raises:
            ExternalServiceError: Valkey does not do it, or not in time; it may still be done.
            ValueError: no reader would accept it.
        """
        await self.tell(Revocation(identifier, expires_at))

    async def tell(self, taken_back: TakenBack) -> None:
        """Take back a token or a session, or all tokens that were issued until a moment; raises as `publish` does."""
        fields: dict[Any, Any] = _fields(taken_back)
        if _taken_back(fields) is None:
            raise ValueError(f"no token or session is {taken_back}")
        try:
            async with asyncio.timeout(TIMEOUT):
                added: Any = await self._client.xadd(KEY, fields)
                # Counted from the time of Valkey, in the id of the entry: who publishes may have another.
                oldest = int(added.partition(b"-")[0]) - round(KEPT * 1000)
                await self._client.xtrim(KEY, minid=max(0, oldest), approximate=True)
        except (RedisError, OSError, TimeoutError) as error:
            raise ExternalServiceError(f"the revocation cannot be published: {_reason(error)}") from error

    async def follow(self, revocations: Revocations, restore: Restore | None = None) -> None:
        """Tell `revocations` all that the stream holds, and from then on what is published, for ever.

        While Valkey is away what is known stays so, and once it is back the stream is read anew. `restore`, of who
        publishes, is asked at the start and whenever the stream has lost what it held, for what was taken back in the
        last KEPT seconds: that is published anew.
        """
        self._follows = True
        pause = 0.0
        try:
            while True:
                try:
                    await self._read(revocations, restore)
                except Exception as error:  # noqa: BLE001  # who gave up would accept what was taken back, and be silent
                    if self._caught_up.is_set() or not pause:
                        self._log.warning("revocations are not heard of, those known count", reason=_reason(error))
                        pause = FIRST_PAUSE
                    self._caught_up.clear()
                    await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
                    pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            self._follows = False
            await self._end_restoring()

    async def caught_up(self) -> None:
        """Return when all that the stream holds is known."""
        await self._caught_up.wait()

    async def answers(self) -> bool:
        """Say whether Valkey answers and, for one who follows, whether all that it holds is known."""
        async with asyncio.timeout(TIMEOUT):
            await self._client.ping()
        return self._caught_up.is_set() or not self._follows

    async def _read(self, revocations: Revocations, restore: Restore | None) -> None:
        """Return when the stream is no longer the one that was read."""
        if restore is not None and not await self._holds(self._position):
            await self._end_restoring()
            self._restoring = asyncio.create_task(self._restore(restore), name="publish revocations anew")
        self._position = _BEGINNING
        while True:
            entries = await self._entries()
            self._take(entries, revocations)
            # New entries need not mean that the old ones are there; to who need not replace them that is no matter.
            doubtful = not entries or restore is not None
            if doubtful and self._position != _BEGINNING and not await self._holds(self._position):
                return
            if entries:
                self._position = entries[-1][0]
            if len(entries) < PAGE and not self._caught_up.is_set():
                self._caught_up.set()
                self._log.info("revocations are heard of", known=len(revocations))

    async def _entries(self) -> Sequence[_Entry]:
        wait = round(QUIET * 1000) if self._caught_up.is_set() else None
        found: Any = await self._client.xread({KEY: self._position}, count=PAGE, block=wait)
        return found[0][1] if found else ()

    async def _holds(self, position: bytes) -> bool:
        """Say whether an entry is there; if not it is old, or the stream another one."""
        return position != _BEGINNING and bool(await self._client.xrange(KEY, position, position))

    def _take(self, entries: Sequence[_Entry], revocations: Revocations) -> None:
        senseless = []
        for position, fields in entries:
            taken_back = _taken_back(fields)
            if taken_back is None:
                senseless.append(position)
            else:
                revocations.take(taken_back)
        if senseless:
            first = senseless[0].decode()
            self._log.warning("revocations that make no sense are skipped", count=len(senseless), first=first)

    async def _restore(self, restore: Restore) -> None:
        left: deque[TakenBack] | None = None
        count = 0
        while True:
            try:
                if left is None:
                    left = deque(await restore())
                while left:  # where it breaks off it goes on: each try would fill the stream with all of them
                    if await self._publish_if_sensible(left[0]):
                        count += 1
                    left.popleft()
            except Exception as error:  # noqa: BLE001  # it is tried until it is done, whatever the place is
                self._log.warning("revocations cannot be published anew yet", reason=_reason(error))
                await asyncio.sleep(LONGEST_PAUSE)
            else:
                self._log.info("revocations are published anew", count=count)
                return

    async def _publish_if_sensible(self, taken_back: TakenBack) -> bool:
        try:
            await self.tell(taken_back)
        except ValueError as error:
            self._log.warning("a revocation that makes no sense is skipped", reason=str(error))
            return False
        return True

    async def _end_restoring(self) -> None:
        if self._restoring is not None:
            self._restoring.cancel()
            await asyncio.gather(self._restoring, return_exceptions=True)


@asynccontextmanager
async def following(
    url: str, revocations: Revocations, restore: Restore | None = None
) -> AsyncIterator[DependencyCheck]:
    """Have `revocations` know what the stream at `url` holds, as long as the block runs; yield the check of that."""
    async with RevocationStream(url) as stream, background(stream.follow(revocations, restore)):
        with suppress(TimeoutError):
            async with asyncio.timeout(CAUGHT_UP_WITHIN):
                await stream.caught_up()
        yield DependencyCheck(name="revocations", probe=stream.answers, critical=False)


def _fields(taken_back: TakenBack) -> dict[bytes, bytes]:
    """Return the entry that says it."""
    match taken_back:
        case Revocation(identifier, expires_at):
            return {b"id": identifier.encode(), b"expires": repr(float(expires_at)).encode()}
        case IssuedUntil(moment):
            return {b"issued_until": repr(float(moment)).encode()}


def _taken_back(fields: Mapping[bytes, bytes]) -> TakenBack | None:
    """Return what an entry says; None when that makes no sense."""
    try:
        if b"issued_until" in fields:
            moment = float(fields[b"issued_until"])
            # What lies far ahead would shut everybody out for as long, and no correct clock says it.
            return IssuedUntil(moment) if 0 <= moment <= time.time() + KEPT else None
        revocation = Revocation(fields[b"id"].decode(), float(fields[b"expires"]))
    except (KeyError, ValueError):
        return None
    sensible = 0 < len(revocation.id) <= ID_MAX and 0 <= revocation.expires_at < YEAR_10000  # and no NaN
    return revocation if sensible else None


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
