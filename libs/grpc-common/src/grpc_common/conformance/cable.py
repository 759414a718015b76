"""The connection between a client and a server, in reach of the test's hands."""

import asyncio
from contextlib import suppress
from typing import Self


class Cable:
    """Forwards every connection to 127.0.0.1:`port` until it is cut; while held, nothing passes towards the server."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._passes = asyncio.Event()
        self._passes.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *failure: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold(self) -> None:
        """Let nothing more through to the server."""
        self._passes.clear()

    def cut(self) -> None:
        """Break all connections, without the goodbyes of any protocol above."""
        for writer in self._writers:
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, back]
        for flow in (self._flow(reader, back, held=True), self._flow(there, writer, held=False)):
            self._tasks.add(asyncio.create_task(flow, name="cable"))

    async def _flow(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, held: bool) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if held:
                    await self._passes.wait()
                sink.write(data)
                await sink.drain()
        sink.transport.abort()
