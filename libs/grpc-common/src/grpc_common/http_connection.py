"""One connection over HTTP, which does not wait for ever for a request."""

import asyncio
from typing import Any, Final, cast

import h11
import structlog
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from grpc_common.http_front import peer

COMPLAINTS_EVERY: Final = 10.0
"""Seconds between two log lines about too many connections."""
LEAST_READ: Final = 16_384
"""Bytes."""


class HTTPConnection(H11Protocol):
    """uvicorn's, which closes itself when the head of a request takes longer than `patience` seconds, when its client
    reads less than LEAST_READ of an answer in as long, or when there are more than `max_connections`.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        patience: float,
        max_connections: int,
        complaint: "Complaint",
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._patience = patience
        self._max_connections = max_connections
        self._complaint = complaint
        self._impatience: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            self._complaint.write(self._max_connections)
            transport.abort()
            return
        self._mind_the_head()

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        super().data_received(data)
        self._mind_the_head()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        # Or else the request would keep its place among those that are worked on for as long as the client likes.
        self._mind_the_reader()

    def resume_writing(self) -> None:
        """Go on."""
        self._have_been_read()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._calm_down()
        self._have_been_read()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close when there is no request, or after its answer."""
        if not self.transport.is_closing():
            super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; where an answer is on its way already, just close."""
        refusable = self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE)
        if not self._is_idle:
            self.cycle.disconnected = True  # whatever the application says now would come after this answer
        if refusable:
            super().send_400_response(msg)
        else:
            self.transport.close()
        status = {"status": 400} if refusable else {}
        self._complaint.log.info("request", **status, reason="it is not HTTP", peer=peer(self.client))

    @property
    def _is_idle(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # its type leaves out that there is none at first
        return cycle is None or cycle.response_complete

    def _mind_the_head(self) -> None:
        if not self._is_idle:
            self._calm_down()
        elif self._impatience is None:
            self._impatience = self.loop.call_later(self._patience, self._give_up)

    def _calm_down(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def _mind_the_reader(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(self._patience, self._look_at_the_reader, left)

    def _look_at_the_reader(self, before: int) -> None:
        if self.transport.get_write_buffer_size() > before - LEAST_READ:
            self._give_up()
        else:
            self._mind_the_reader()

    def _have_been_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _give_up(self) -> None:
        self.transport.abort()


class Complaint:
    """What the connections of a server have to say in the log."""

    def __init__(self) -> None:
        self.log = structlog.get_logger(component="access")
        self._again_at = float("-inf")

    def write(self, most: int) -> None:
        """Say that there are too many connections, unless that was said just now."""
        now = asyncio.get_running_loop().time()
        if now >= self._again_at:
            self._again_at = now + COMPLAINTS_EVERY
            self.log.warning("connections refused", reason=f"there are {most}, the most there may be")
