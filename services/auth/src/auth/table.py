"""The tables of the service."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    String,
    Table,
    and_,
    case,
    false,
    select,
    text,
)

from auth.client import Client
from auth.columns import Names, Secret
from auth.family import Family
from auth.user import ADMIN, ID_MAX, USERNAME_MAX, User
from grpc_common.database.column_types import UtcDateTime, code
from grpc_common.database.constraint_names import NAMES
from grpc_common.listing.page_token_secrets import page_token_secrets
from grpc_common.outbox.table import outbox_table

METADATA: Final = MetaData(naming_convention=NAMES)

USERS: Final = Table(
    "users",
    METADATA,
    Column("id", code(ID_MAX), primary_key=True),
    Column("username", code(USERNAME_MAX), nullable=False, unique=True),
    Column("password_hash", Secret, nullable=False),
    Column("roles", Names, nullable=False),
    Column("is_admin", Boolean, Computed(f"(' ' || roles || ' ') LIKE '% {ADMIN} %'", persisted=True), nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("version", BigInteger, nullable=False),
)

IS_ACTIVE_ADMIN: Final = and_(USERS.c.is_admin, USERS.c.disabled == false())
"""The condition that a user is an administrator who may log in."""

Index(
    "ix_users_administrators",
    USERS.c.id,
    postgresql_where=USERS.c.is_admin,
    sqlite_where=USERS.c.is_admin,
)

ADMINISTRATORS: Final = Table(
    "administrators",
    METADATA,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("first_id", code(ID_MAX)),
    Column("removals", BigInteger, nullable=False),
)
"""One row, which whoever makes the first administrator or removes one changes, and so does alone: who the first one is,
once there is one, and how many were removed.
"""

CLIENTS: Final = Table(
    "clients",
    METADATA,
    Column("client_id", code(ID_MAX), primary_key=True),
    Column("secret_hash", LargeBinary(32), nullable=False),
    Column("roles", Names, nullable=False),
    Column("scopes", Names, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("folded", code(ID_MAX), unique=True),
)
"""`folded` is the id in small letters, of which there is one; NULL for those that were there beside another such."""

FAMILIES: Final = Table(
    "families",
    METADATA,
    Column("id", code(32), primary_key=True),
    Column("subject", code(ID_MAX), nullable=False, index=True),
    Column("client_id", code(ID_MAX), nullable=False),
    Column("scopes", Names, nullable=False),
    Column("salt", LargeBinary, nullable=False),
    Column("token_hash", LargeBinary(32), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("rotated_at", Double, nullable=False, index=True),
    Column("used_at", JSON, nullable=False),
    Column("revoked", String(32)),
    Column("epoch", BigInteger, nullable=False, server_default=text("0")),
)
"""Families of refresh tokens; times are Unix seconds. Those of another epoch than the present one have ended."""

SESSION_EPOCH: Final = Table(
    "session_epoch",
    METADATA,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("issued_until", Double, nullable=False),
)
"""One row: the epoch that families begin in now, and until when, in Unix seconds, all access tokens were taken back."""

EPOCH: Final = select(SESSION_EPOCH.c.epoch).scalar_subquery()
"""The present epoch."""

IS_LIVING: Final = and_(FAMILIES.c.revoked.is_(None), FAMILIES.c.epoch == EPOCH)
"""The condition that a family has not ended."""

REVOCATIONS: Final = Table(
    "revocations",
    METADATA,
    Column("event_id", String(36), primary_key=True),
    Column("identifier", code(64), nullable=False, index=True),
    Column("expires_at", Double, nullable=False, index=True),
)
"""The sessions and tokens taken back, by `sid` or `jti`, as long as one of their tokens may be alive (in Unix seconds):
for services that have to hear of them again.
"""

TOKEN_SECRETS: Final = page_token_secrets("auth_token_secrets", METADATA)

OUTBOX: Final = outbox_table("auth_outbox", METADATA)
"""Security events to be told to others, and those that were told a while ago."""

_ENDING: Final = case(
    (and_(FAMILIES.c.revoked.is_(None), FAMILIES.c.epoch != EPOCH), "all_ended"), else_=FAMILIES.c.revoked
)
FAMILY_COLUMNS: Final = (
    *(FAMILIES.c[field] for field in Family.__dataclass_fields__ if field != "revoked"),
    _ENDING.label("revoked"),
)

USER_COLUMNS: Final = tuple(USERS.c[field] for field in User.__dataclass_fields__)


def row_of_user(user: User) -> Mapping[str, Any]:
    """Return the values of the user's row by column."""
    return {column.name: getattr(user, column.name) for column in USER_COLUMNS}


def user_of(row: Row[Any]) -> User:
    """Return the user of a row with USER_COLUMNS."""
    return User(**row._mapping)  # noqa: SLF001  # a public name that cannot clash with a column


def row_of_client(client: Client) -> Mapping[str, Any]:
    """Return the values of the client's row by column."""
    return {
        "client_id": client.id,
        "secret_hash": client.secret_hash,
        "roles": client.roles,
        "scopes": client.scopes,
        "created_at": client.created_at,
        "folded": client.id.lower(),
    }


def client_of(row: Row[Any]) -> Client:
    """Return the client of a row with all columns of the table."""
    return Client(
        id=row.client_id,
        secret_hash=row.secret_hash,
        roles=row.roles,
        scopes=row.scopes,
        created_at=row.created_at,
    )


def row_of_family(family: Family) -> dict[str, Any]:
    """Return the values of the family's row by column."""
    return {field: getattr(family, field) for field in Family.__dataclass_fields__}


def family_of(row: Row[Any]) -> Family:
    """Return the family of a row with FAMILY_COLUMNS."""
    values = dict(row._mapping)  # noqa: SLF001  # a public name that cannot clash with a column
    return Family(**{**values, "used_at": tuple(values["used_at"])})
