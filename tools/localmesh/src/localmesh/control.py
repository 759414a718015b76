"""The socket by which other `./mesh` commands ask a running mesh to do something."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from localmesh.development_users import DevelopmentUsers
from localmesh.failure import MeshError, UsageError
from localmesh.processes import Processes
from localmesh.restart import Restart
from localmesh.spans.store import Spans
from localmesh.status import Status

LONGEST_REQUEST = 4096


class Control:
    """Listens on a Unix socket in a folder that only its owner can enter: one JSON line in, JSON lines out.

    An answer is any number of `{"said": …}`, then `{"done": true}` or `{"failure": sentence, "detail": …}`.
    """

    def __init__(
        self,
        path: Path,
        status: Callable[[], Status],
        restart: Restart,
        processes: Processes,
        spans: Spans,
        users: DevelopmentUsers,
    ) -> None:
        self._path = path
        self._status = status
        self._restart = restart
        self._processes = processes
        self._spans = spans
        self._users = users
        self._turn = asyncio.Lock()
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begins to listen."""
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=LONGEST_REQUEST)

    async def stop(self) -> None:
        """Listens no more; what is under way is cut, so that nothing is started again that is to stop."""
        if self._server is not None:
            self._server.close()
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._answer(reader, writer))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            try:
                async for said in self._do(await _read(reader)):
                    await _say(writer, {"said": said})
                await _say(writer, {"done": True})
            except MeshError as error:
                failure = {"failure": str(error), "detail": error.detail, "exit_status": error.exit_status}
                await _say(writer, failure)
            finally:
                writer.close()

    async def _do(self, request: dict[str, Any]) -> AsyncIterator[Any]:
        match request:
            case {"status": True}:
                yield self._status().to_json()
            case {"restart": str(name)}:
                async with self._turn:
                    async for line in self._restart(name):
                        yield line
            case {"rotate": bool(authority)}:
                async with self._turn:
                    certificates = self._processes.certificates
                    await (
                        certificates.replace_authority(self._processes.envoys) if authority else certificates.renew()
                    )
                    yield "new certificates" + (" of a new authority" if authority else "")
            case {"rotate_keys": True}:
                yield f"new versions of the signing keys {', '.join(await self._processes.signing.rotate())}"
            case {"token": [*roles]}:
                yield await self._users.token([str(role) for role in roles])
            case {"traces": int(count)}:
                yield [trace.as_json() for trace in self._spans.latest(count)]
            case {"trace": str(start)}:
                yield [trace.as_json() for trace in self._spans.find(start)]
            case _:
                raise UsageError("the mesh does not know this request; is it another version's?")


async def _read(reader: asyncio.StreamReader) -> dict[str, Any]:
    try:
        request: dict[str, Any] = json.loads(await reader.readline())
    except ValueError as error:  # no JSON, or longer than the reader's limit
        raise UsageError(f"the mesh cannot read a request of more than {LONGEST_REQUEST} bytes or no JSON") from error
    return request


async def _say(writer: asyncio.StreamWriter, line: dict[str, Any]) -> None:
    writer.write(f"{json.dumps(line)}\n".encode())
    await writer.drain()
