"""The tables that the tests fill."""

from datetime import UTC, datetime

from sqlalchemy import CheckConstraint, Column, Double, ForeignKey, Index, Integer, MetaData, Table, UniqueConstraint

from grpc_common.database.column_types import UtcDateTime, code
from grpc_common.database.constraint_names import NAMES

METADATA = MetaData(naming_convention=NAMES)
LAMPS = Table(
    "lamps",
    METADATA,
    Column("id", code(64), primary_key=True),
    Column("serial_number", code(64), unique=True),
    Column("watts", Integer, CheckConstraint("watts > 0", name="watts"), nullable=False, default=40),
    Column("price", Double),
    Column("made_at", UtcDateTime, nullable=False, default=datetime(2026, 1, 2, tzinfo=UTC)),
)
Index("lamps_price", LAMPS.c.price, unique=True)  # not named as `NAMES` has it

LAMPS_SOLD = Table(
    "lamps_sold",
    METADATA,
    Column("id", code(64), primary_key=True),
    Column("lamp_id", code(64), ForeignKey("lamps.id")),
    Column("till", Integer, nullable=False, default=0),
    Column("receipt", Integer, nullable=False, default=0),
    UniqueConstraint("till", "receipt"),
)
"""Its name begins like the other's."""
