"""Tells what is in the outbox."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog

from grpc_common.errors import AppException
from grpc_common.outbox.event import EventPublisher
from grpc_common.outbox.outbox import Claim, Outbox

FIRST_PAUSE: Final = 0.2
"""Seconds before an event that could not be told is tried again; each failure doubles them."""
CLEAR_EVERY: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLimits:
    """Seconds: between two looks when nobody calls; for one event to be told; until one that could not be told is tried
    again, at most; a told event is kept; the oldest event may wait before the relay counts as unwell. And how many
    events are told at once.
    """

    poll: float
    timeout: float
    pause: float
    kept: float
    lag: float
    at_once: int


class Relay:
    """Tells events to a publisher: at least once, those of one subject in order, beside any number of other relays.

    An event that fails holds back the later ones of its subject and nothing else.
    """

    def __init__(
        self, outbox: Outbox, publisher: EventPublisher, limits: RelayLimits, clock: Callable[[], datetime]
    ) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._limits = limits
        self._clock = clock
        self._stirred = asyncio.Event()
        self._cleared: datetime | None = None
        self._log = structlog.get_logger(component="relay")

    def stir(self) -> None:
        """Says that there may be events."""
        self._stirred.set()

    async def keeps_up(self) -> bool:
        """Says whether no event has waited too long."""
        oldest = await self._outbox.oldest()
        return oldest is None or self._clock() - oldest <= timedelta(seconds=self._limits.lag)

    async def run(self) -> None:
        """Tells events as they come, for ever; cancelled, it first notes what was told."""
        while True:
            try:
                told = await self.once()
                await self._clear()
            except AppException as error:  # the database comes back
                self._log.warning("the outbox cannot be read", reason=error.message)
                told = 0
            if not told:
                await self._wait()

    async def once(self) -> int:
        """Tells what is due, at most one event of each subject; returns how many were told."""
        limits = self._limits
        self._stirred.clear()  # what is stirred from here on is looked for again
        lease = timedelta(seconds=2 * limits.timeout + 5)  # longer than it can take: while it lasts the events are ours
        claims = await self._outbox.claim(self._clock(), lease, limits.at_once)
        telling = [asyncio.create_task(self._tell(claim)) for claim in claims]
        try:
            await asyncio.gather(*telling)
        finally:  # also when it is cancelled: what was told is noted, the rest given back
            for task in telling:
                task.cancel()
            outcomes = await asyncio.gather(*telling, return_exceptions=True)
            told = [claim for claim, outcome in zip(claims, outcomes, strict=True) if outcome is None]
            await self._outbox.told(told, self._clock())
            for claim, outcome in zip(claims, outcomes, strict=True):
                if outcome is not None:
                    pause = outcome if isinstance(outcome, float) else 0.0
                    await self._outbox.failed(claim, self._clock() + timedelta(seconds=pause))
        return len(told)

    async def _tell(self, claim: Claim) -> float | None:
        """Returns nothing when the event is told, and the seconds until it is to be tried again when it is not."""
        try:
            async with asyncio.timeout(self._limits.timeout):
                await self._publisher.publish(claim.event)
        except Exception as error:  # noqa: BLE001  # whatever a publisher raises means: not told
            pause = min(FIRST_PAUSE * 2.0 ** min(claim.attempt - 1, 20), self._limits.pause)
            pause *= random.uniform(0.5, 1)  # noqa: S311
            self._log.warning(
                "an event is not told",
                event_id=claim.event.id,
                attempt=claim.attempt,
                reason=str(error) or type(error).__name__,
                again_in_seconds=round(pause, 2),
            )
            return pause
        return None

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._limits.poll):
                await self._stirred.wait()
        except TimeoutError:
            return

    async def _clear(self) -> None:
        now = self._clock()
        if self._cleared is not None and now - self._cleared < CLEAR_EVERY:
            return
        while await self._outbox.clear(now - timedelta(seconds=self._limits.kept)):
            pass
        self._cleared = now
