"""Keeps security events in PostgreSQL or SQLite until they are told."""

from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncEngine

from auth.audit import SecurityEvent
from auth.security_events import tell
from auth.transaction import nobody, transaction


class SqlAudit:
    """An `Audit` in the outbox. `changed` is called when an event is committed."""

    def __init__(self, engine: AsyncEngine, changed: Callable[[], None] = nobody) -> None:
        self._engine = engine
        self._changed = changed

    async def record(self, event: SecurityEvent) -> None:
        """Insert the event."""
        async with transaction(self._engine, self._changed) as connection:
            await tell(connection, [event])
