"""A relay that is killed after it told some events and before it noted that: `python dying_relay.py FILE COUNT`."""

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from grpc_common.database.engine import Limits, open_engine
from items.event import Event
from items.outbox import Outbox
from items.relay import Relay, RelayLimits

LIMITS = RelayLimits(poll=0.05, timeout=5, kept=3600, lag=30, at_once=10)
DATABASE = Limits(connections=2, pool_timeout=5, connect_timeout=5, statement_timeout=5, slow_query=5)


class FilePublisher:
    """Writes ids of events to a file, and dies after so many."""

    def __init__(self, file: Path, count: int) -> None:
        self._file = file
        self._left = count

    async def publish(self, event: Event) -> None:
        with self._file.open("a") as file:
            file.write(f"{event.item_id} {event.id}\n")
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(file: str, count: str) -> None:
    async with open_engine(os.environ["DATABASE"], DATABASE) as engine:
        publisher = FilePublisher(Path(file), int(count))
        await Relay(Outbox(engine), publisher, LIMITS, partial(datetime.now, UTC)).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
