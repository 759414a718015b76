"""Puts together what tells others of changes."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import Table

from grpc_common.background import background
from grpc_common.database.engine import Limits, open_engine
from grpc_common.health.check import DependencyCheck
from grpc_common.outbox.event import EventPublisher
from grpc_common.outbox.outbox import Outbox
from grpc_common.outbox.relay import Relay, RelayLimits
from grpc_common.outbox.wakeups import Wakeups

CONNECTIONS: Final = 3
"""One listens, one works, one is for the health check: apart from those of calls, so that neither waits for others."""


@asynccontextmanager
async def telling(
    url: str,
    limits: Limits,
    table: Table,
    publisher: EventPublisher | None,
    relay_limits: RelayLimits,
    clock: Callable[[], datetime],
    *,
    application: str,
) -> AsyncIterator[tuple[Callable[[], None], Sequence[DependencyCheck]]]:
    """Yields what is to be called after each commit, and the check of the relay; without a publisher there is no relay
    here, and those of other processes are woken. `table` is one made by `outbox_table`.
    """
    async with open_engine(url, replace(limits, connections=CONNECTIONS), application) as engine:
        if publisher is None:
            wakeups = Wakeups(engine, table.name, lambda: None)
            async with background(wakeups.run()):
                yield wakeups.stir, ()
            return
        relay = Relay(Outbox(engine, table), publisher, relay_limits, clock)
        wakeups = Wakeups(engine, table.name, relay.stir)

        def stir() -> None:
            relay.stir()
            wakeups.stir()

        async with background(relay.run(), wakeups.run()):
            yield stir, [DependencyCheck(name="outbox", probe=relay.keeps_up, critical=False)]
