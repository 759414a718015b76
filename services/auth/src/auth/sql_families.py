"""Keeps families of refresh tokens in PostgreSQL or SQLite."""

from collections.abc import Callable
from typing import Final

from sqlalchemy import bindparam, false, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from auth.caller import NOBODY, Caller
from auth.family import Ending, Family, Login
from auth.family_endings import all_of, end_families
from auth.security_events import tell
from auth.table import CLIENTS, EPOCH, FAMILIES, FAMILY_COLUMNS, IS_LIVING, USERS, family_of, row_of_family
from auth.transaction import nobody, transaction
from grpc_common.database.column_types import can_hold
from grpc_common.database.deletion import delete_some
from grpc_common.database.driver_errors import translated_errors
from grpc_common.database.reader import Reader


class SqlFamilies:
    """`Families` in the table of that name. `changed` is called when an event is committed."""

    def __init__(self, engine: AsyncEngine, changed: Callable[[], None] = nobody) -> None:
        self._engine = engine
        self._changed = changed
        self._reader = Reader(engine)

    async def add(self, family: Family, login: Login | None = None) -> bool:
        """Insert the family while the rows of the user and the client are locked."""
        async with transaction(self._engine, nobody if login is None else self._changed) as connection:
            if login is not None:
                if not await _still_holds(connection, login):
                    return False
                await tell(connection, [login.event])
            await connection.execute(insert(FAMILIES).values(**row_of_family(family), epoch=EPOCH))
            return True

    async def find(self, family_id: str) -> Family | None:
        """Read one row by its key."""
        if not can_hold(family_id):
            return None
        with translated_errors():
            rows = await self._reader.rows(_FIND, {"family_id": family_id})
        return family_of(rows[0]) if rows else None

    async def replace(self, family: Family) -> bool:
        """Write the row in one statement, if its generation is the one before."""
        before = (FAMILIES.c.generation == family.generation - 1, IS_LIVING)
        replacing = update(FAMILIES).where(FAMILIES.c.id == family.id, *before).values(row_of_family(family))
        async with transaction(self._engine) as connection:
            return (await connection.execute(replacing)).rowcount == 1

    async def revoke(self, family_id: str, ending: Ending, at: float, *, caller: Caller = NOBODY) -> bool:
        """Note the ending in one statement, if there is none."""
        if not can_hold(family_id):
            return False
        async with transaction(self._engine, self._changed) as connection:
            return await end_families(connection, FAMILIES.c.id == family_id, ending, at, caller) == 1

    async def revoke_all(
        self, subject: str, ending: Ending, at: float, *, keep: str = "", caller: Caller = NOBODY
    ) -> int:
        """Note the ending of all families at once."""
        if not can_hold(subject):
            return 0
        async with transaction(self._engine, self._changed) as connection:
            return await end_families(connection, all_of(subject, keep), ending, at, caller)

    async def forget(self, before: float, limit: int) -> int:
        """Delete those that nobody else is changing."""
        async with transaction(self._engine) as connection:
            return await delete_some(connection, FAMILIES, FAMILIES.c.rotated_at < before, limit)


_FIND: Final = select(*FAMILY_COLUMNS).where(FAMILIES.c.id == bindparam("family_id"))


async def _still_holds(connection: AsyncConnection, login: Login) -> bool:
    user, client = login.user, login.client
    proved = (USERS.c.id == user.id, USERS.c.version == user.version, USERS.c.password_hash == user.password_hash)
    present = select(USERS.c.id).where(*proved, USERS.c.disabled == false()).with_for_update(read=True)
    if (await connection.execute(present)).one_or_none() is None:
        return False
    if client is None:
        return True
    # Who has its id by now, but not its secret, is another one.
    kept = (CLIENTS.c.client_id == client.id, CLIENTS.c.secret_hash == client.secret_hash)
    present = select(CLIENTS.c.client_id).where(*kept).with_for_update(read=True)
    return (await connection.execute(present)).one_or_none() is not None
