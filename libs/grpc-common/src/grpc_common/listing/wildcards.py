"""Strings with wildcards: `*` stands for any text, also for none."""

import re
from typing import Any, Final, override

from sqlalchemy import Boolean, ColumnElement, Dialect, String, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator

type Pattern = tuple[str, ...]
"""The texts between the wildcards: `("", ".foo")` is `*.foo`; a single one has no wildcard."""

ESCAPED: Final = "*\\\"'"


def read_pattern(text: str) -> Pattern:
    """Return what `text` says; a backslash takes the meaning from `*`, `\\` and quotes, and else raises ValueError."""
    pieces, escaped = [""], False
    for character in text:
        if escaped and character not in ESCAPED:
            raise ValueError(f"\\{character} means nothing: a backslash stands before *, \\, \" or ' only")
        if escaped or character not in "*\\":
            pieces[-1] += character
            escaped = False
        elif character == "*":
            pieces.append("")
        else:
            escaped = True
    if escaped:
        raise ValueError("a backslash stands before *, \\, \" or ' only")
    return _without_doubles(pieces)


def anywhere(pattern: Pattern) -> Pattern:
    """Return the pattern of texts in which something matches `pattern`."""
    return _without_doubles(["", *pattern, ""])


def _without_doubles(pieces: list[str]) -> Pattern:
    """Two wildcards in a row say no more than one, and cost the database more."""
    return tuple(piece for at, piece in enumerate(pieces) if piece or at in {0, len(pieces) - 1})


class _PatternText(TypeDecorator[Pattern]):
    """A pattern in the words of the database: LIKE's, or GLOB's where LIKE does not tell upper from lower case."""

    impl = String
    cache_ok = True

    @override
    def process_bind_param(self, value: Pattern | None, dialect: Dialect) -> str:
        if dialect.name == "sqlite":
            return "*".join(re.sub(r"[*?\[]", r"[\g<0>]", piece) for piece in value or ())
        return "%".join(re.sub(r"[%_\\]", r"\\\g<0>", piece) for piece in value or ())


class Matches(FunctionElement[bool]):
    """Whether the whole text of a column matches a pattern; upper and lower case differ on every database."""

    inherit_cache = True
    name = "matches"
    type = Boolean()

    def __init__(self, column: ColumnElement[Any], pattern: Pattern) -> None:
        super().__init__(column, literal(pattern, _PatternText()))


@compiles(Matches)
def _like(element: Matches, compiler: SQLCompiler, **words: Any) -> str:
    column, pattern = (compiler.process(clause, **words) for clause in element.clauses)
    return f"({column} LIKE {pattern} ESCAPE '\\')"


@compiles(Matches, "sqlite")
def _glob(element: Matches, compiler: SQLCompiler, **words: Any) -> str:
    column, pattern = (compiler.process(clause, **words) for clause in element.clauses)
    return f"({column} GLOB {pattern})"
