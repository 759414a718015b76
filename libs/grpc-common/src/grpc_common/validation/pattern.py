"""Patterns in the syntax of RE2, for Python's `re`: the same answer, in bounded time, or none at all.

`re` differs from RE2 (https://github.com/google/re2/wiki/Syntax) in anchors, classes and Unicode, and it goes back and
tries again, which a hostile text can make it do for hours. So a pattern is parsed here, and only what means the same to
both, and cannot be made to take long, is written out again.
"""

import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Final

# Ways to match that `re` may have to try one after another: some 20 ms.
MOST_WAYS: Final = 5_000_000
MOST_REPEATS: Final = 1_000

type Ranges = tuple[tuple[int, int], ...]

_CONTROLS: Final = frozenset((*range(0x20), *range(0x7F, 0xA0)))
_UNSEEN: Final = frozenset({0x20, 0xA0, 0x200B})
_ESCAPES: Final = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11, "a": 7}
_DIGITS: Final = ((0x30, 0x39),)
_WORDS: Final = (*_DIGITS, (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACES: Final = ((9, 10), (12, 13), (0x20, 0x20))
_CLASSES: Final[dict[str, Ranges]] = {"d": _DIGITS, "w": _WORDS, "s": _SPACES}


class PatternError(Exception):
    """A pattern that this package does not take; the message says why."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern: whether a text has it somewhere, and what to say when it has not."""

    search: Callable[[str], object]
    fault: str


def compile_pattern(pattern: str, longest: int) -> Pattern:
    """Compile `pattern` for texts of up to `longest` characters.

    Raises:
        PatternError: it could mean something else to RE2, or take too long.
    """
    node = _Parser(pattern).parse()
    ways = node.ways(longest) * (1 if node.anchored() else longest + 1)
    if ways > MOST_WAYS:
        raise PatternError(
            "a hostile text could make it take very long: anchor it with ^, set max_len, nest no repeats"
        )
    return Pattern(re.compile(node.write()).search, _fault(node) or _form(node))


@dataclass(frozen=True, slots=True)
class _Chars:
    ranges: Ranges
    negated: bool = False

    def write(self) -> str:
        body = "".join(rf"\U{low:08x}-\U{high:08x}" for low, high in self.ranges)
        return f"[{'^' if self.negated else ''}{body}]"

    def ways(self, longest: int) -> int:  # noqa: ARG002
        return 1

    def anchored(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class _Mark:
    mark: str

    def write(self) -> str:
        return self.mark

    def ways(self, longest: int) -> int:  # noqa: ARG002
        return 1

    def anchored(self) -> bool:
        return self.mark == r"\A"


@dataclass(frozen=True, slots=True)
class _Sequence:
    parts: "tuple[_Node, ...]"

    def write(self) -> str:
        return "".join(part.write() for part in self.parts)

    def ways(self, longest: int) -> int:
        return _capped(prod(part.ways(longest) for part in self.parts))

    def anchored(self) -> bool:
        return bool(self.parts) and self.parts[0].anchored()


@dataclass(frozen=True, slots=True)
class _Either:
    branches: "tuple[_Node, ...]"

    def write(self) -> str:
        return f"(?:{'|'.join(branch.write() for branch in self.branches)})"

    def ways(self, longest: int) -> int:
        return _capped(sum(branch.ways(longest) for branch in self.branches))

    def anchored(self) -> bool:
        return all(branch.anchored() for branch in self.branches)


@dataclass(frozen=True, slots=True)
class _Repeat:
    part: "_Node"
    least: int
    most: int | None

    def write(self) -> str:
        part = self.part.write() if isinstance(self.part, _Chars) else f"(?:{self.part.write()})"
        return f"{part}{{{self.least},{'' if self.most is None else self.most}}}"

    def ways(self, longest: int) -> int:
        inner = self.part.ways(longest)
        most = longest if self.most is None else self.most
        if inner == 1:
            return max(1, min(most, longest) - self.least + 1)
        return _capped(sum(_capped(inner**times) for times in range(self.least, min(most, MOST_REPEATS) + 1)))

    def anchored(self) -> bool:
        return self.least > 0 and self.part.anchored()


type _Node = _Chars | _Mark | _Sequence | _Either | _Repeat


def _capped(ways: int) -> int:
    return min(ways, MOST_WAYS + 1)


class _Parser:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def parse(self) -> _Node:
        node = self._either()
        if self._at < len(self._pattern):
            raise PatternError("it has a ) without its (")
        return node

    def _peek(self, count: int = 1) -> str:
        return self._pattern[self._at : self._at + count]

    def _next(self) -> str:
        if not (char := self._peek()):
            raise PatternError("it ends too early")
        self._at += 1
        return char

    def _either(self) -> _Node:
        branches = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            branches.append(self._sequence())
        return branches[0] if len(branches) == 1 else _Either(tuple(branches))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeat(self._atom()))
        return parts[0] if len(parts) == 1 else _Sequence(tuple(parts))

    def _repeat(self, part: _Node) -> _Node:
        char = self._peek()
        if char not in ("*", "+", "?", "{"):
            return part
        if isinstance(part, _Mark):
            raise PatternError("it repeats an anchor")
        if char == "{":
            least, most = self._counts()
        else:
            self._at += 1
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        if self._peek() == "?":  # lazy: the same texts match
            self._at += 1
        if self._peek() in ("*", "+", "?", "{"):
            raise PatternError("it has a repeat of a repeat")
        return _Repeat(part, least, most)

    def _counts(self) -> tuple[int, int | None]:
        found = re.compile(r"\{([0-9]{1,4})(,([0-9]{0,4}))?\}").match(self._pattern, self._at)
        if not found:
            raise PatternError(r"it has a { that starts no {n}, {n,} or {n,m}: write \{ for the character")
        self._at = found.end()
        least = int(found[1])
        most = least if found[2] is None else int(found[3]) if found[3] else None
        if max(least, most or 0) > MOST_REPEATS or (most is not None and most < least):
            raise PatternError(f"it repeats more than {MOST_REPEATS} times, or at most less often than at least")
        return least, most

    def _atom(self) -> _Node:
        match char := self._next():
            case "^":
                return _Mark(r"\A")
            case "$":
                return _Mark(r"\Z")
            case ".":
                return _Chars(((10, 10),), negated=True)
            case "(":
                return self._group()
            case "[":
                return self._class()
            case "\\":
                return self._escape()
            case "*" | "+" | "?" | "{":
                raise PatternError(f"it has a {char} with nothing to repeat")
        return _Chars(((ord(char), ord(char)),))

    def _group(self) -> _Node:
        if self._peek() == "?":
            if self._peek(2) != "?:":
                raise PatternError("it has a group (?...) that is not (?:...)")
            self._at += 2
        node = self._either()
        if self._next() != ")":
            raise PatternError("it has a ( without its )")
        return node

    def _escape(self) -> _Node:
        char = self._next()
        if char in ("A", "z"):
            return _Mark(r"\A" if char == "A" else r"\Z")
        if char.lower() in _CLASSES:
            return _Chars(_CLASSES[char.lower()], negated=char.isupper())
        code = self._escaped(char)
        return _Chars(((code, code),))

    def _escaped(self, char: str) -> int:
        if char in _ESCAPES:
            return _ESCAPES[char]
        if char in string.punctuation:
            return ord(char)
        found = re.compile(r"x(?:([0-9a-fA-F]{2})|\{([0-9a-fA-F]{1,6})\})").match(self._pattern, self._at - 1)
        code = int(found[1] or found[2], 16) if found else -1
        if not found or not (code < 0xD800 or 0xDFFF < code <= 0x10FFFF):
            raise PatternError(rf"it has \{char}, which is not taken here")
        self._at = found.end()
        return code

    def _class(self) -> _Node:
        negated = self._peek() == "^"
        self._at += negated
        ranges: list[tuple[int, int]] = []
        while (char := self._next()) != "]" or not ranges:
            if char == "]" or (char == "[" and self._peek() in (":", ".", "=")):
                raise PatternError(r"it has a class that starts with ] or holds [: : write \] or \[")
            if char == "\\" and self._peek() in _CLASSES:
                ranges += _CLASSES[self._next()]
                continue
            low = high = self._escaped(self._next()) if char == "\\" else ord(char)
            if self._peek() == "-" and self._peek(2) != "-]":
                self._at += 1
                char = self._next()
                high = self._escaped(self._next()) if char == "\\" else ord(char)
                if high < low:
                    raise PatternError("it has a range that runs backwards")
            ranges.append((low, high))
        return _Chars(tuple(ranges), negated=negated)


def _fault(node: _Node) -> str | None:
    """Say in words what a pattern asks of each character, and that it asks for one to be seen, where that is all."""
    match node:
        case _Sequence((_Mark(r"\A"), _Repeat(_Sequence((_Repeat() as all_, one, again)), 0, 1), _Mark(r"\Z") as end)):
            of_all = _fault(_Sequence((_Mark(r"\A"), all_, end)))
            return f"{of_all}, and must have a character that can be seen" if all_ == again and _seen(one) else None
        case _Sequence((_Mark(r"\A"), _Repeat(_Chars(ranges, negated), 0 | 1, None), _Mark(r"\Z"))):
            pass
        case _:
            return None
    if not negated:
        return f"must contain only {_listed(ranges)}"
    codes = {code for low, high in ranges if high < 0xA0 for code in range(low, high + 1)}
    if codes == _CONTROLS:
        return "must not contain control characters"
    if codes < _CONTROLS and len(spared := sorted(_CONTROLS - codes)) <= 4:
        return f"must not contain control characters other than {_joined([f'U+{code:04X}' for code in spared], 'and')}"
    return f"must not contain {_listed(ranges, 'or')}"


def _form(node: _Node) -> str:
    """Say in words what a text must look like: whoever reads it need know no regular expressions."""
    parts = node.parts if isinstance(node, _Sequence) else (node,)
    begins = bool(parts) and parts[0] == _Mark(r"\A")
    ends = bool(parts) and parts[-1] == _Mark(r"\Z")
    inner = parts[begins : len(parts) - ends]
    verb = {(True, True): "be", (True, False): "begin with", (False, True): "end with", (False, False): "contain"}
    return f"must {verb[begins, ends]} {_words(_Sequence(inner))}"


def _words(node: _Node) -> str:
    match node:
        case _Chars(((low, high),), False) if low == high:
            return _char(low)
        case _Chars(ranges, negated):
            return f"a character other than {_listed(ranges, 'or')}" if negated else f"one of {_listed(ranges, 'or')}"
        case _Mark(mark):
            return {r"\A": "the beginning", r"\Z": "the end"}.get(mark, "the edge of a word")
        case _Either(branches):
            return f"either {' or '.join(map(_words, branches))}"
        case _Repeat(part, least, most):
            return f"{_times(least, most)}{_repeated(part)}"
        case _Sequence(parts):
            return ", then ".join(_pieces(parts)) or "empty"


def _pieces(parts: "tuple[_Node, ...]") -> Iterator[str]:
    """Yield the words of each part; characters in a row that must be exactly so are one word."""
    literal = ""
    for part in parts:
        match part:
            case _Chars(((low, high),), False) if low == high and 0x20 <= low < 0x7F:
                literal += chr(low)
            case _:
                if literal:
                    yield f"'{literal}'"
                    literal = ""
                yield _words(part)
    if literal:
        yield f"'{literal}'"


def _times(least: int, most: int | None) -> str:
    if most is None:
        return f"{least} or more " if least else "any number of "
    return f"{least} " if least == most else f"{least} to {most} "


def _repeated(part: _Node) -> str:
    match part:
        case _Chars(ranges, negated):
            return (
                f"characters other than {_listed(ranges, 'or')}" if negated else f"characters out of {_listed(ranges)}"
            )
    return f"times ({_words(part)})"


def _seen(node: _Node) -> bool:
    """Whether it is a character that is none of those without ink."""
    match node:
        case _Chars(ranges, True):
            return all(any(low <= code <= high for low, high in ranges) for code in _UNSEEN)
    return False


def _listed(ranges: Ranges, conjunction: str = "and") -> str:
    return _joined(
        [_char(low) if low == high else f"{_char(low)} to {_char(high)}" for low, high in ranges], conjunction
    )


def _joined(names: list[str], conjunction: str) -> str:
    return f"{', '.join(names[:-1])} {conjunction} {names[-1]}" if len(names) > 1 else names[0]


def _char(code: int) -> str:
    return f"'{chr(code)}'" if 0x20 <= code < 0x7F else f"U+{code:04X}"
