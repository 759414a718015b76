"""A relay that is killed after it told some events and before it noted that: `python dying_relay.py FILE COUNT`."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from outbox.letters import DATABASE, LETTERS, LIMITS, real

from grpc_common.database.engine import open_engine
from grpc_common.outbox.event import Event
from grpc_common.outbox.outbox import Outbox
from grpc_common.outbox.relay import Relay


class FilePublisher:
    """Writes ids of events to a file, and dies after so many."""

    def __init__(self, file: Path, count: int) -> None:
        self._file = file
        self._left = count

    async def publish(self, event: Event) -> None:
        with self._file.open("a") as file:
            file.write(f"{event.subject} {event.id}\n")
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(file: str, count: str) -> None:
    async with open_engine(os.environ["DATABASE"], DATABASE) as engine:
        await Relay(Outbox(engine, LETTERS), FilePublisher(Path(file), int(count)), LIMITS, real).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
