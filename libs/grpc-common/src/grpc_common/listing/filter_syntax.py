"""The grammar of filters: the part of AIP-160's that a list needs."""

import re
from typing import Final

from lark import Lark, Token, Tree, UnexpectedInput

from grpc_common.errors import ValidationError

MAX_LENGTH: Final = 2_000
MAX_DEPTH: Final = 16
MAX_TERMS: Final = 64

# As in AIP-160, OR binds tighter than AND, and terms that stand side by side are meant to be true together.
_GRAMMAR: Final = r"""
    start: [all]
    ?all: any (_AND? any)*
    ?any: term (_OR term)*
    ?term: simple | negation
    negation: (_NOT | _MINUS) simple
    ?simple: _OPEN all _CLOSE | comparison | WORD | STRING
    comparison: WORD OPERATOR (VALUE | STRING)

    _AND.2: /AND(?![^\s()])/
    _OR.2: /OR(?![^\s()])/
    _NOT.2: /NOT(?![^\s()])/
    _MINUS.2: /-(?=\S)/
    _OPEN: "("
    _CLOSE: ")"
    OPERATOR: /[<>!]=|[<>=:]/
    WORD: /(?!(?:AND|OR|NOT)(?![^\s()]))[^\s"'(),<>=!:-][^\s"'(),<>=!:]*/
    VALUE: /(?!(?:AND|OR|NOT)(?![^\s()]))[^\s"'(),<>=!:][^\s"'(),<>=!]*/
    STRING: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/s
    %ignore /[ \t\r\n]+/
"""
_PARSER: Final = Lark(_GRAMMAR, parser="lalr", lexer="contextual", maybe_placeholders=False)
_BEFORE_A_TERM: Final = {"", "_AND", "_OR", "_NOT", "_MINUS", "_OPEN"}
_WORDS: Final = {"WORD", "STRING"}
# Nobody sees control characters, PostgreSQL refuses NUL, and lone surrogates are no text in UTF-8.
_NO_TEXT: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def parse(text: str) -> Tree[Token]:
    """Return the syntax tree of a filter.

    Raises:
        ValidationError: naming the place and what was expected there, or which limit the filter passes.
    """
    if len(text) > MAX_LENGTH:
        raise ValidationError(f"has {len(text)} characters, and may have {MAX_LENGTH}", field="filter")
    if found := _NO_TEXT.search(text):
        raise refusal(found.start(), f"the character U+{ord(found[0]):04X} is not allowed")
    parsing = _PARSER.parse_interactive(text)
    before = Token("", "", end_pos=0)
    depth = terms = 0
    try:
        for token in parsing.lexer_thread.lex(parsing.parser_state):  # type: ignore[no-untyped-call]
            at = token.start_pos or 0
            depth += (token.type == "_OPEN") - (token.type == "_CLOSE")
            terms += token.type in _WORDS and before.type != "OPERATOR"
            if depth > MAX_DEPTH:
                raise refusal(at, f"more than {MAX_DEPTH} parentheses stand in each other")
            if terms > MAX_TERMS:
                raise refusal(at, f"there are more than {MAX_TERMS} terms")
            if token.type == "_OPEN" and before.type == "WORD" and before.end_pos == at:
                raise refusal(at, f"there is no function {excerpt(before)}")
            parsing.feed_token(token)
            before = token
        tree: Tree[Token] = parsing.feed_eof(before)  # type: ignore[no-untyped-call]  # lark leaves it untyped
        return tree
    except UnexpectedInput as error:
        raise _unexpected(error, text, before, depth) from None


def refusal(at: int, sentence: str) -> ValidationError:
    """Return the error that says what is wrong at the place `at`, which counts characters from 0."""
    return ValidationError(f"at character {at + 1}: {sentence}", field="filter")


def excerpt(text: str) -> str:
    """Return the text in quotation marks, or its begin when it is long."""
    return f"“{text}”" if len(text) <= 40 else f"“{text[:40]}…”"


def _unexpected(error: UnexpectedInput, text: str, before: Token, depth: int) -> ValidationError:
    found: Token | None = getattr(error, "token", None)
    ended = found is not None and found.type == "$END"
    at: int = len(text) if ended else vars(error)["pos_in_stream"]
    if not ended and text[at] in "\"'":
        return refusal(at, "the string that begins here does not end")
    if before.type in _BEFORE_A_TERM:
        expected = "a comparison such as price > 5, a word, “(”, NOT or -"
    elif before.type == "OPERATOR":
        expected = "a value"
    else:
        operator = "an operator, " if before.type == "WORD" else ""
        expected = f"{operator}AND, OR, another term{' or “)”' if depth > 0 else ' or the end'}"
    what = "the end" if ended else excerpt(text[at] if found is None else found)
    return refusal(at, f"{expected} is expected, not {what}")
