"""Processes that are killed in the middle of a change: `python dying_change.py change|event|commit` kills one per verb.

Each dies when its change is made and the event is not, when both are made and not committed, or right after the commit.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, NoReturn

from people import NOW, a_client, a_user, an_admin, happened
from pydantic import SecretStr
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.audit import Kind
from auth.family import Family, Login
from auth.sql_audit import SqlAudit
from auth.sql_clients import SqlClients
from auth.sql_families import SqlFamilies
from auth.sql_users import SqlUsers
from auth.table import OUTBOX
from grpc_common.database.engine import Limits, open_engine

LIMITS: Final = Limits(connections=1, pool_timeout=5, connect_timeout=5, statement_timeout=5)
HASH: Final = a_user().password_hash
FAMILY: Final = Family("", "alice", "web", frozenset(), b"", b"", 0, NOW.timestamp(), NOW.timestamp())


class Dying:
    """Each verb that tells something, done to whom `test_dying` has made."""

    def __init__(self, engine: AsyncEngine, changed: Callable[[], None]) -> None:
        users, clients = SqlUsers(engine, changed), SqlClients(engine, changed)
        families, audit = SqlFamilies(engine, changed), SqlAudit(engine, changed)
        self.verbs: Sequence[Callable[[], Awaitable[object]]] = [
            lambda: users.add(a_user("bob", id="bob"), happened(Kind.USER_CREATED, "bob")),
            lambda: users.add_first_admin(an_admin(id="root"), happened(Kind.BOOTSTRAPPED, "root")),
            lambda: families.add(replace(FAMILY, id="9" * 32), Login(a_user(id="alice"), happened(Kind.LOGGED_IN))),
            lambda: families.revoke("0" * 32, "logged_out", NOW.timestamp()),
            lambda: users.set_password("alice", HASH, SecretStr("new"), happened(Kind.PASSWORD_CHANGED, "alice")),
            lambda: users.set_roles("alice", frozenset({"reader"}), "", happened(Kind.ROLES_CHANGED, "alice")),
            lambda: users.set_disabled("alice", True, "", happened(Kind.USER_DISABLED, "alice")),
            lambda: clients.add(a_client("shipping"), happened(Kind.CLIENT_CREATED, "shipping")),
            lambda: clients.delete("billing", happened(Kind.CLIENT_DELETED, "billing")),
            lambda: families.revoke_all("carol", "logged_out", NOW.timestamp()),
            lambda: audit.record(happened(Kind.LOGIN_FAILED, "alice")),
        ]


VERBS: Final = 11
TOLD: Final = [
    Kind.USER_CREATED,
    Kind.BOOTSTRAPPED,
    Kind.LOGGED_IN,
    Kind.SESSION_REVOKED,
    Kind.PASSWORD_CHANGED,
    Kind.SESSION_REVOKED,
    Kind.SESSION_REVOKED,
    Kind.SESSION_REVOKED,
    Kind.ROLES_CHANGED,
    Kind.USER_DISABLED,
    Kind.CLIENT_CREATED,
    Kind.CLIENT_DELETED,
    Kind.SESSION_REVOKED,
    Kind.LOGIN_FAILED,
]
"""What they tell, one after the other: three sessions are left for the other password."""


def die(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def die_at_the_event(connection: object, cursor: object, statement: str, *_: object) -> None:
    if statement.startswith(f"INSERT INTO {OUTBOX.name} "):
        die()


async def main(number: int, moment: str) -> None:
    async with open_engine(os.environ["DATABASE"], LIMITS) as engine:
        if moment == "change":
            event.listen(engine.sync_engine, "before_cursor_execute", die_at_the_event)
        elif moment == "event":
            event.listen(engine.sync_engine, "commit", die)
        await Dying(engine, die if moment == "commit" else lambda: None).verbs[number]()


def kill(number: int, moment: str) -> int:
    """Return how the process ended."""
    process = os.fork()
    if not process:
        try:
            asyncio.run(main(number, moment))
        finally:
            os._exit(0)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    ends = [kill(number, sys.argv[1]) for number in range(VERBS)]
    sys.exit(f"not all were killed: {ends}" if set(ends) != {-signal.SIGKILL} else 0)
