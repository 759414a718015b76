"""Where the service keeps what it keeps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from sqlalchemy.ext.asyncio import AsyncEngine

from auth.audit import Audit
from auth.family import Families
from auth.repository import Clients, Users
from auth.sql_audit import SqlAudit
from auth.sql_clients import SqlClients
from auth.sql_families import SqlFamilies
from auth.sql_users import SqlUsers


@dataclass(frozen=True, slots=True)
class Stores:
    """One of each."""

    users: Users
    clients: Clients
    families: Families
    audit: Audit

    @classmethod
    def sql(cls, engine: AsyncEngine, changed: Callable[[], None]) -> Self:
        """Return those in a database; `changed` is called when there is an event to tell."""
        return cls(
            users=SqlUsers(engine, changed),
            clients=SqlClients(engine, changed),
            families=SqlFamilies(engine, changed),
            audit=SqlAudit(engine, changed),
        )
