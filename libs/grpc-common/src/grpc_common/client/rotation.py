"""New certificates take effect by a new channel: warmed first, then given all new calls."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import grpc
from grpc import ChannelConnectivity, aio

from grpc_common.client.connection import Connection
from grpc_common.client.tls_files import ClientTLSFiles

EVERY: Final = 1.0
"""Seconds between two looks at the files, while calls are made."""
WARMING: Final = 5.0
"""The most seconds a new channel has to connect before the old one would rather stay."""


class Rotation:
    """Looks at the files when calls are made, and replaces the connection's channel when they have changed.

    A channel that works goes on working until the new one does: certificates that no server accepts change nothing.
    """

    def __init__(
        self, connection: Connection, files: ClientTLSFiles, dial: Callable[[grpc.ChannelCredentials], aio.Channel]
    ) -> None:
        self._connection = connection
        self._files = files
        self._dial = dial
        self._next = connection.calling.clock.now() + EVERY
        self._warming: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Look at the files unless that has just been done; to be called before each call."""
        now = self._connection.calling.clock.now()
        if now < self._next or self._warming is not None:
            return
        self._next = now + EVERY
        credentials = self._files.read_again()
        if credentials is None:
            return
        channel = self._dial(credentials)
        if self._connection.channel.get_state() is ChannelConnectivity.READY:
            self._warming = asyncio.create_task(self._warm(channel), name="warming a new channel")
        else:
            self._connection.replace(channel)

    async def _warm(self, channel: aio.Channel) -> None:
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(WARMING):
                    await channel.channel_ready()
            works = channel.get_state() is ChannelConnectivity.READY
            if works or self._connection.channel.get_state() is not ChannelConnectivity.READY:
                self._connection.replace(channel)
                channel = None  # type: ignore[assignment]  # it is the connection's now
        finally:
            self._warming = None
            if channel is not None:
                await channel.close()

    async def close(self) -> None:
        """Give up a channel that is being warmed."""
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.wait((self._warming,))
