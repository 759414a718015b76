"""Keeps users in PostgreSQL or SQLite."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic import SecretStr
from sqlalchemy import bindparam, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from auth.audit import SecurityEvent
from auth.family import Ending
from auth.family_endings import all_of, end_families_with
from auth.security_events import tell
from auth.table import ADMINISTRATORS, IS_ACTIVE_ADMIN, USER_COLUMNS, USERS, row_of_user, user_of
from auth.transaction import nobody, transaction
from auth.user import ADMIN, User
from grpc_common.database.column_types import can_hold
from grpc_common.database.driver_errors import translated_errors
from grpc_common.database.reader import Reader
from grpc_common.errors import AbortedError, NotFoundError, PreconditionError
from grpc_common.etag import matches


class SqlUsers:
    """`Users` in the table of that name; both databases run the same statements. `changed` is called when an event is
    committed.
    """

    def __init__(self, engine: AsyncEngine, changed: Callable[[], None] = nobody) -> None:
        self._engine = engine
        self._changed = changed
        self._reader = Reader(engine)

    async def add(self, user: User, event: SecurityEvent) -> None:
        """Insert the user."""
        async with transaction(self._engine, self._changed) as connection:
            await _add(connection, user, event)

    async def add_first_admin(self, user: User, event: SecurityEvent) -> bool:
        """Claim the one row that there is for this; who comes at the same moment waits until it is known whether the
        claim holds.
        """
        unclaimed = (ADMINISTRATORS.c.first_id.is_(None), ~exists().where(USERS.c.is_admin))
        async with transaction(self._engine, self._changed) as connection:
            claim = await connection.execute(update(ADMINISTRATORS).where(*unclaimed).values(first_id=user.id))
            if not claim.rowcount:
                return False
            await _add(connection, user, event)
            return True

    async def get(self, user_id: str) -> User | None:
        """Read one row by its key."""
        return await self._one(_GET, user_id)

    async def find(self, username: str) -> User | None:
        """Read one row by the name's index."""
        return await self._one(_FIND, username)

    async def page(self, after: str, limit: int) -> Sequence[User]:
        """Read one page by the name's index, at a cost that does not grow with what lies before."""
        with translated_errors():
            return [user_of(row) for row in await self._reader.rows(_PAGE, {"after": after, "size": limit})]

    async def set_password(
        self, user_id: str, kept: SecretStr, password_hash: SecretStr, event: SecurityEvent, *, keep: str = ""
    ) -> bool:
        """Exchange the hash in one statement, and with it end what was begun with the old one."""
        async with transaction(self._engine, self._changed) as connection:
            exchanged = await _exchange(connection, user_id, kept, password_hash)
            if exchanged:
                await tell(connection, [event])
                await end_families_with(connection, all_of(user_id, keep), "password_changed", event)
            return exchanged

    async def rehash(self, user_id: str, kept: SecretStr, password_hash: SecretStr) -> bool:
        """Exchange the hash in one statement, and tell nobody."""
        async with transaction(self._engine) as connection:
            return await _exchange(connection, user_id, kept, password_hash)

    async def set_roles(self, user_id: str, roles: frozenset[str], etag: str, event: SecurityEvent) -> User:
        """Lock the user and write what differs."""
        return await self._change(user_id, etag, event, roles=roles)

    async def set_disabled(self, user_id: str, disabled: bool, etag: str, event: SecurityEvent) -> User:
        """Lock the user and write what differs."""
        return await self._change(user_id, etag, event, disabled=disabled)

    async def _one(self, statement: Any, value: str) -> User | None:
        if not can_hold(value):
            return None
        with translated_errors():
            rows = await self._reader.rows(statement, {"value": value})
        return user_of(rows[0]) if rows else None

    async def _change(self, user_id: str, etag: str, event: SecurityEvent, **values: Any) -> User:
        async with transaction(self._engine, self._changed) as connection:
            user = await _lock(connection, user_id)
            changed = replace(user, **values)
            if changed == user:
                return user
            if not matches(etag, user.version):
                raise AbortedError(f"the user {user_id} changed since it had this etag: read it again", field="etag")
            if _is_active_admin(user) and not _is_active_admin(changed):
                await _require_another_admin(connection, user)
            changed = replace(changed, updated_at=max(event.at, user.updated_at), version=user.version + 1)
            await connection.execute(update(USERS).where(USERS.c.id == user.id).values(row_of_user(changed)))
            await tell(connection, [event])
            if changed.disabled or user.roles - changed.roles:
                ending: Ending = "disabled" if changed.disabled else "roles_removed"
                await end_families_with(connection, all_of(user.id), ending, event)
            return changed


_GET: Final = select(*USER_COLUMNS).where(USERS.c.id == bindparam("value"))
_FIND: Final = select(*USER_COLUMNS).where(USERS.c.username == bindparam("value"))
_PAGE: Final = (
    select(*USER_COLUMNS)
    .where(USERS.c.username > bindparam("after"))
    .order_by(USERS.c.username)
    .limit(bindparam("size"))
)


async def _add(connection: AsyncConnection, user: User, event: SecurityEvent) -> None:
    await connection.execute(insert(USERS).values(row_of_user(user)))
    await tell(connection, [event])


async def _exchange(connection: AsyncConnection, user_id: str, kept: SecretStr, password_hash: SecretStr) -> bool:
    present = (USERS.c.id == user_id, USERS.c.password_hash == kept)
    exchanging = update(USERS).where(*present).values(password_hash=password_hash)
    return (await connection.execute(exchanging)).rowcount == 1


async def _lock(connection: AsyncConnection, user_id: str) -> User:
    locking = select(*USER_COLUMNS).where(USERS.c.id == user_id).with_for_update()
    row = (await connection.execute(locking)).one_or_none() if can_hold(user_id) else None
    if row is None:
        raise NotFoundError(f"there is no user {user_id}", field="id")
    return user_of(row)


def _is_active_admin(user: User) -> bool:
    return ADMIN in user.roles and not user.disabled


async def _require_another_admin(connection: AsyncConnection, user: User) -> None:
    """Raise PreconditionError if the user, who is locked, is the last administrator."""
    # Whoever removes another one waits here, and then sees that this one is gone.
    await connection.execute(update(ADMINISTRATORS).values(removals=ADMINISTRATORS.c.removals + 1))
    others = select(USERS.c.id).where(IS_ACTIVE_ADMIN, USERS.c.id != user.id).limit(1)
    if (await connection.execute(others)).one_or_none() is None:
        raise PreconditionError(f"the user {user.id} is the last administrator who may log in: make another one first")
