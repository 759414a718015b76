"""Says what an error of the database means to a caller."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from grpc_common.errors import AppException, ConflictError, DatabaseError, ExternalServiceError

# SQLSTATE classes and codes, PostgreSQL documentation, appendix A: connection exception, operator intervention
# (shut down, starting, statement cancelled), too many connections; and disk full.
_UNAVAILABLE = re.compile(r"08...|57...|53300")
_UNAVAILABLE_SQLITE = {"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_INTERRUPT"}
_NO_ROOM = {"53100", "SQLITE_FULL"}
_UNIQUE = re.compile(r"(?:(?:pk|uq)_items_|UNIQUE constraint failed: items\.)(?P<column>\w+)")


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turns what the drivers raise into ConflictError, ExternalServiceError or DatabaseError.

    The message tells no more than the kind; the driver's own error is its cause, for the log.
    """
    try:
        yield
    except (SQLAlchemyError, OSError) as error:  # a refused connection and a passed time limit are OSErrors
        raise _meaning(error) from error


def _meaning(error: Exception) -> AppException:
    if isinstance(error, IntegrityError) and (field := _field_taken(error)):
        return ConflictError(f"another item has this {field}", field=field)
    if _code(error) in _NO_ROOM:
        return ExternalServiceError("the database has no room left: nothing can be written until it has")
    if _unavailable(error):
        return ExternalServiceError("the database cannot be reached or does not answer in time")
    return DatabaseError("the database failed")


def _field_taken(error: IntegrityError) -> str:
    """Returns the column of the unique constraint that was violated, or nothing when it was another kind."""
    # PostgreSQL names the constraint (see `table.NAMES`), SQLite the column.
    constraint = getattr(error.orig and error.orig.__cause__, "constraint_name", None) or str(error.orig)
    unique = _UNIQUE.fullmatch(constraint)
    return unique["column"] if unique else ""


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
