"""What page tokens are sealed with, in a table, so that all replicas of a service read each other's."""

from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, select
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.database.driver_errors import translated_errors
from grpc_common.database.reader import Reader
from grpc_common.listing.page_token import PageTokens


def page_token_secrets(name: str, metadata: MetaData) -> Table:
    """Return the table of that name; a migration makes it, with the first secret in it.

    The greatest number is the newest secret. They guard no permission: who can read the database gains nothing by them.
    """
    return Table(
        name,
        metadata,
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("secret", LargeBinary(32), nullable=False),
    )


async def load_page_tokens(engine: AsyncEngine, table: Table) -> PageTokens:
    """Return what seals and opens tokens with the secrets in the table.

    Raises:
        ExternalServiceError: the database cannot be reached or does not answer in time.
        DatabaseError: it fails in another way.
    """
    with translated_errors():
        rows = await Reader(engine).rows(select(table.c.secret).order_by(table.c.number.desc()))
    return PageTokens(*(row.secret for row in rows))
