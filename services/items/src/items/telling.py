"""Puts together what tells others of changes."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Final

from grpc_common.database.engine import Limits, open_engine
from grpc_common.health.check import DependencyCheck
from items.event import EventPublisher
from items.outbox import Outbox
from items.relay import Relay, RelayLimits
from items.upkeep import background
from items.wakeups import Wakeups

CONNECTIONS: Final = 3
"""One listens, one works, one is for the health check: apart from those of calls, so that neither waits for others."""


@asynccontextmanager
async def telling(
    url: str, limits: Limits, publisher: EventPublisher | None, relay_limits: RelayLimits, clock: Callable[[], datetime]
) -> AsyncIterator[tuple[Callable[[], None], Sequence[DependencyCheck]]]:
    """Yields what is to be called after each commit, and the check of the relay; without a publisher there is no relay
    here, and those of other processes are woken.
    """
    async with open_engine(url, replace(limits, connections=CONNECTIONS), "items") as engine:
        if publisher is None:
            wakeups = Wakeups(engine, lambda: None)
            async with background(wakeups.run()):
                yield wakeups.stir, ()
            return
        relay = Relay(Outbox(engine), publisher, relay_limits, clock)
        wakeups = Wakeups(engine, relay.stir)

        def stir() -> None:
            relay.stir()
            wakeups.stir()

        async with background(relay.run(), wakeups.run()):
            yield stir, [DependencyCheck(name="outbox", probe=relay.keeps_up, critical=False)]
