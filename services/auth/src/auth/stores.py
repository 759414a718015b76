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
from auth.sql_revocations import SqlRevocations
from auth.sql_users import SqlUsers
from auth.table import TOKEN_SECRETS
from grpc_common.listing.page_token import PageTokens
from grpc_common.listing.page_token_secrets import load_page_tokens


@dataclass(frozen=True, slots=True)
class Stores:
    """One of each."""

    users: Users
    clients: Clients
    families: Families
    audit: Audit
    revocations: SqlRevocations
    page_tokens: PageTokens
    clock: Callable[[], float]
    """Gives Unix seconds, the same ones to all replicas."""

    @classmethod
    async def sql(cls, engine: AsyncEngine, changed: Callable[[], None], clock: Callable[[], float]) -> Self:
        """Return those in a database, whose `clock` is; `changed` is called when there is an event to tell."""
        return cls(
            users=SqlUsers(engine, changed),
            clients=SqlClients(engine, changed),
            families=SqlFamilies(engine, changed),
            audit=SqlAudit(engine, changed),
            revocations=SqlRevocations(engine),
            page_tokens=await load_page_tokens(engine, TOKEN_SECRETS),
            clock=clock,
        )
