"""How the constraints of tables are named, and what the name of one tells."""

import re
from typing import Final

NAMES: Final = {
    "pk": "pk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
}
"""The `naming_convention` for the MetaData of a service."""


def unique_column(constraint: str, table: str) -> str:
    """Returns the column, the first of several, that the constraint of the table keeps unique; "" if it is another
    kind of constraint or named in another way.
    """
    named = re.fullmatch(rf"(?:pk|uq)_{re.escape(table)}_(?P<column>\w+)", constraint)
    return named["column"] if named else ""
