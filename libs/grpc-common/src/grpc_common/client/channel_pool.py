"""Connections that are shared: one per target, credentials and event loop, for as long as anybody holds it."""

import asyncio
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from grpc_common.client.channel import ClientChannel
from grpc_common.client.connection import Connection


@dataclass(frozen=True, slots=True)
class ChannelKey:
    """What makes two channels the same."""

    target: str
    secure: bool
    credentials: Any
    """The object itself, by identity: what is inside cannot be compared. None for those of the settings."""
    loop: asyncio.AbstractEventLoop


class ChannelPool:
    """Counts who holds which connection, and closes a connection with its last holder."""

    def __init__(self, make: Callable[[ChannelKey], Connection]) -> None:
        self._make = make
        self._held: dict[ChannelKey, tuple[Connection, set[object]]] = {}

    def __len__(self) -> int:
        """Count the connections that are open."""
        return len(self._held)

    def lease(self, key: ChannelKey) -> ClientChannel:
        """Return a share of the connection of that key, made when there is none.

        The share ends with `close`, or when nobody has it any more, nor a stub made with it.
        """
        self._forget_dead_loops()
        found = self._held.get(key)
        if found is None:
            found = self._held[key] = (self._make(key), set())
        connection, holders = found
        share = object()
        holders.add(share)
        channel = ClientChannel(connection, partial(self._release, key, share))
        weakref.finalize(channel, self._lost, key, share).atexit = False
        return channel

    async def _release(self, key: ChannelKey, share: object, grace: float | None = None) -> None:
        connection, holders = self._held.get(key, (None, set[object]()))
        if connection is None or share not in holders:
            return
        holders.discard(share)
        if not holders:
            del self._held[key]
            await connection.close(grace)

    def _lost(self, key: ChannelKey, share: object) -> None:
        # Perhaps in whatever thread the garbage is collected in.
        if key in self._held and not key.loop.is_closed():
            key.loop.call_soon_threadsafe(self._release_lost, key, share)

    def _release_lost(self, key: ChannelKey, share: object) -> None:
        task = key.loop.create_task(self._release(key, share), name="closing a channel nobody holds")
        _closing.add(task)
        task.add_done_callback(_closing.discard)

    def _forget_dead_loops(self) -> None:
        for key in [key for key in self._held if key.loop.is_closed()]:
            del self._held[key]

    async def close(self, grace: float | None = None) -> None:
        """Close every connection of this event loop: calls that run get `grace` seconds."""
        loop = asyncio.get_running_loop()
        mine = [key for key in self._held if key.loop is loop]
        await asyncio.gather(*(self._held.pop(key)[0].close(grace) for key in mine))
        self._forget_dead_loops()


_closing: set[asyncio.Task[None]] = set()
