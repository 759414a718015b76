"""Keeps clients in PostgreSQL or SQLite."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.audit import SecurityEvent
from auth.client import Client
from auth.family_endings import end_families_with
from auth.security_events import tell
from auth.table import CLIENTS, FAMILIES, client_of, row_of_client
from auth.transaction import nobody, transaction
from grpc_common.database.column_types import can_hold
from grpc_common.database.driver_errors import translated_errors
from grpc_common.database.reader import Reader
from grpc_common.errors import ConflictError, NotFoundError


class SqlClients:
    """`Clients` in the table of that name. `changed` is called when an event is committed."""

    def __init__(self, engine: AsyncEngine, changed: Callable[[], None] = nobody) -> None:
        self._engine = engine
        self._changed = changed
        self._reader = Reader(engine)

    async def add(self, client: Client, event: SecurityEvent) -> None:
        """Insert the client."""
        try:
            async with transaction(self._engine, self._changed) as connection:
                await connection.execute(insert(CLIENTS).values(row_of_client(client)))
                await tell(connection, [event])
        except ConflictError as error:
            message = "another client has this client_id, or one that differs in capital letters only"
            raise ConflictError(message, field="client_id") from error

    async def get(self, client_id: str) -> Client | None:
        """Read one row by its key."""
        if not can_hold(client_id):
            return None
        with translated_errors():
            rows = await self._reader.rows(_GET, {"client_id": client_id})
        return client_of(rows[0]) if rows else None

    async def delete(self, client_id: str, event: SecurityEvent) -> None:
        """Delete one row by its key; end its own tokens, and the sessions that were begun with it."""
        async with transaction(self._engine, self._changed) as connection:
            deleting = delete(CLIENTS).where(CLIENTS.c.client_id == client_id).returning(*CLIENTS.c)
            row = (await connection.execute(deleting)).one_or_none() if can_hold(client_id) else None
            if row is None:
                raise NotFoundError(f"there is no client {client_id}", field="client_id")
            await tell(connection, [replace(event, session_id=client_of(row).session_id)])
            theirs = FAMILIES.c.client_id == client_id
            await end_families_with(connection, theirs, "client_deleted", event)


_GET: Final = select(CLIENTS).where(CLIENTS.c.client_id == bindparam("client_id"))
