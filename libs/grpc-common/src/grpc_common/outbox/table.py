"""The table that keeps events."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, text

from grpc_common.database.column_types import UtcDateTime, code

ID_MAX: Final = 36
SUBJECT_MAX: Final = 64
"""The most characters of the id of an event, and of what it is about."""


def outbox_table(name: str, metadata: MetaData, subject: str = "subject") -> Table:
    """Returns the table of events to be told to others, and of those that were told a while ago; a migration of the
    service makes it. `subject` is how the database calls the column of what they are about: in Python it is always
    `table.c.subject`, but the rows that a statement returns have the database's name.
    """
    table = Table(
        name,
        metadata,
        Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
        Column("event_id", String(ID_MAX), nullable=False),
        Column(subject, code(SUBJECT_MAX), key="subject", nullable=False),
        Column("payload", LargeBinary, nullable=False),
        Column("at", UtcDateTime, nullable=False),
        Column("attempts", Integer, nullable=False, server_default=text("0")),
        Column("due_at", UtcDateTime, nullable=False),  # when a relay may take the event
        Column("told_at", UtcDateTime, index=True),
        sqlite_autoincrement=True,  # a number is never given twice, also when the rows are gone
    )
    untold = table.c.told_at.is_(None)
    Index(f"ix_{name}_untold", table.c.subject, table.c.number, postgresql_where=untold, sqlite_where=untold)
    Index(f"ix_{name}_next", table.c.number, postgresql_where=untold, sqlite_where=untold)
    return table
