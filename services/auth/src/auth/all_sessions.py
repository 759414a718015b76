"""The end of all sessions at once, for when nobody knows any more which of them had ended."""

from collections.abc import Callable

from sqlalchemy import case, update
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.audit import SecurityEvent
from auth.revoked import issued_until
from auth.security_events import tell
from auth.table import SESSION_EPOCH
from auth.transaction import nobody, transaction


class AllSessions:
    """Ends all sessions in a database. `changed` is called when that is committed.

    A family of refresh tokens belongs to the epoch that it began in, and lives while that is the present one: so the
    end of all is one row, however many there are, and nobody waits for a lock.
    """

    def __init__(self, engine: AsyncEngine, changed: Callable[[], None] = nobody) -> None:
        self._engine = engine
        self._changed = changed

    async def end(self, event: SecurityEvent) -> None:
        """Begin another epoch, and take back all access tokens that were issued before `event` happened."""
        moment, epoch, until = issued_until(event), SESSION_EPOCH.c.epoch, SESSION_EPOCH.c.issued_until
        later = case((until > moment, until), else_=moment)
        async with transaction(self._engine, self._changed) as connection:
            await connection.execute(update(SESSION_EPOCH).values(epoch=epoch + 1, issued_until=later))
            await tell(connection, [event])
