"""Says what an error of the database means to a caller."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from grpc_common.database.constraint_names import unique_column
from grpc_common.errors import AppException, ConflictError, DatabaseError, ExternalServiceError

# SQLSTATE classes and codes, PostgreSQL documentation, appendix A: connection exception, operator intervention
# (shut down, starting, statement cancelled), too many connections; and disk full.
_UNAVAILABLE = re.compile(r"08...|57...|53300")
_UNAVAILABLE_SQLITE = {"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_INTERRUPT"}
_NO_ROOM = {"53100", "SQLITE_FULL"}
_UNIQUE_SQLITE = re.compile(r"UNIQUE constraint failed: (?P<table>\w+)\.(?P<column>\w+)(?:, .+)?")
_NONE: Final[Mapping[str, str]] = {}


@contextmanager
def translated_errors(nouns: Mapping[str, str] = _NONE) -> Iterator[None]:
    """Turns what the drivers raise into ConflictError, ExternalServiceError or DatabaseError.

    `nouns` says by the name of a table what callers call one of its rows, such as {"items": "item"}: a value that a
    column of these tables keeps unique and that another row has is a ConflictError about the field; anywhere else the
    service itself is at fault, a DatabaseError. The message tells no more than the kind; the driver's own error is its
    cause, for the log.
    """
    try:
        yield
    except (SQLAlchemyError, OSError) as error:  # a refused connection and a passed time limit are OSErrors
        raise _meaning(error, nouns) from error


def _meaning(error: Exception, nouns: Mapping[str, str]) -> AppException:
    if isinstance(error, IntegrityError):
        table, column = _taken(error)
        if column and table in nouns:
            return ConflictError(f"another {nouns[table]} has this {column}", field=column)
    if _code(error) in _NO_ROOM:
        return ExternalServiceError("the database has no room left: nothing can be written until it has")
    if _unavailable(error):
        return ExternalServiceError("the database cannot be reached or does not answer in time")
    return DatabaseError("the database failed")


def _taken(error: IntegrityError) -> tuple[str, str]:
    """Returns the table and the column of the unique constraint that was violated; no column if it was another kind."""
    told = error.orig and error.orig.__cause__
    if constraint := getattr(told, "constraint_name", None):  # PostgreSQL names the constraint, SQLite the column
        table = str(getattr(told, "table_name", ""))
        return table, unique_column(constraint, table)
    unique = _UNIQUE_SQLITE.fullmatch(str(error.orig))
    return (unique["table"], unique["column"]) if unique else ("", "")


def _unavailable(error: Exception) -> bool:
    if isinstance(error, (OSError, PoolTimeoutError)):
        return True
    if not isinstance(error, DBAPIError):
        return False
    return (
        error.connection_invalidated
        or bool(_UNAVAILABLE.fullmatch(_code(error)))
        or _code(error) in _UNAVAILABLE_SQLITE
    )


def _code(error: Exception) -> str:
    """Returns the SQLSTATE, or the name SQLite has for the error, or nothing."""
    original = getattr(error, "orig", None)
    return str(getattr(original, "sqlstate", None) or getattr(original, "sqlite_errorname", ""))
