"""Reads filters: text in, typed tree out."""

from collections.abc import Mapping
from typing import Final, assert_never

from lark import Token, Tree

from grpc_common.errors import ValidationError
from grpc_common.listing.field import Field, Kind
from grpc_common.listing.filter_syntax import excerpt, parse, refusal
from grpc_common.listing.filter_tree import All, Any, Comparison, Filter, Like, Not, Operator, Present
from grpc_common.listing.literals import read_literal, read_time
from grpc_common.listing.wildcards import Pattern, anywhere, read_pattern

_NEGLECTED_CAPITALS: Final = {"and", "or", "not"}
_OPERATORS: Final[dict[str, Operator]] = {
    "=": "=",
    "!=": "!=",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
    ":": "=",  # "has": of a field with a single value, that it is this one
}


def read_filter(text: str, fields: Mapping[str, Field]) -> Filter:
    """Return what the filter says about these fields; an empty one lets everything pass.

    Raises:
        ValidationError: for `filter`, with the place (counted in characters from 1) and what was expected.
    """
    (*parts,) = parse(text).children
    return _Reader(fields).read(parts[0]) if parts else All(())


class _Reader:
    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._fields = fields
        self._searched = tuple(field for field in fields.values() if field.searched)

    def read(self, node: Tree[Token] | Token) -> Filter:
        if isinstance(node, Token):
            return self._search(node)
        match node.data:
            case "all":
                return All(tuple(map(self.read, node.children)))
            case "any":
                return Any(tuple(map(self.read, node.children)))
            case "negation":
                return Not(self.read(node.children[0]))
            case _:
                name, operator, value = (child for child in node.children if isinstance(child, Token))
                return self._compare(name, operator, value)

    def _search(self, word: Token) -> Filter:
        """A word that stands alone is looked for anywhere in the fields that are searched."""
        if word.type == "WORD":
            if word in self._fields:
                raise _at(word, f"{word} is a field: compare it, or put it in quotation marks to look for the word")
            if word.lower() in _NEGLECTED_CAPITALS:
                raise _at(word, f"write {word.upper()}, or put it in quotation marks to look for the word")
        if not self._searched:
            raise _at(word, f"a comparison is expected: words are not looked for here. {self._known()}")
        pattern = anywhere(_pattern(word))
        return Any(tuple(Like(field, pattern) for field in self._searched))

    def _compare(self, name: Token, operator: Token, value: Token) -> Filter:
        field = self._fields.get(name)
        if field is None:
            raise _at(name, f"there is no field {excerpt(name)}. {self._known()}")
        if operator == ":" and value == "*" and value.type == "VALUE":
            return Present(field)
        if field.kind is Kind.TEXT:
            return _compare_text(field, operator, value)
        if field.kind is Kind.BOOLEAN and operator not in {"=", "!=", ":"}:
            raise _at(operator, f"{field.name} is true or false: = or != is expected, not {operator}")
        text = _body(value)
        try:
            if field.kind is Kind.TIMESTAMP:
                return _compare_time(field, _OPERATORS[operator], text)
            return Comparison(field, _OPERATORS[operator], read_literal(field.kind, text))
        except ValueError:
            raise _at(value, f"{field.name} takes {field.kind}, not {excerpt(text)}") from None

    def _known(self) -> str:
        return f"The fields are {', '.join(self._fields)}."


def _compare_text(field: Field, operator: Token, value: Token) -> Filter:
    pattern = _pattern(value)
    if operator == ":":
        return Like(field, anywhere(pattern))
    if len(pattern) == 1:
        return Comparison(field, _OPERATORS[operator], pattern[0])
    if operator == "=":
        return Like(field, pattern)
    if operator == "!=":
        return Not(Like(field, pattern))
    raise _at(
        value, f"* stands for any text with =, != and : only; after {operator} write \\* for the character itself"
    )


def _compare_time(field: Field, operator: Operator, text: str) -> Filter:
    """A time between two microseconds is none that a column has: what is not later than its microsecond is earlier."""
    microsecond, later = read_time(text)
    if not later:
        return Comparison(field, operator, microsecond)
    match operator:
        case "<" | "<=":
            return Comparison(field, "<=", microsecond)
        case ">" | ">=":
            return Comparison(field, ">", microsecond)
        case "=":
            return Not(All(()))
        case "!=":
            return All(())
    assert_never(operator)


def _pattern(token: Token) -> Pattern:
    try:
        return read_pattern(_body(token))
    except ValueError as error:
        raise _at(token, str(error)) from None


def _body(token: Token) -> str:
    return token[1:-1] if token.type == "STRING" else str(token)


def _at(token: Token, sentence: str) -> ValidationError:
    return refusal(token.start_pos or 0, sentence)
