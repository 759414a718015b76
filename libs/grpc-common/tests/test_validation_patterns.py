"""Patterns mean what they mean to RE2, take bounded time, or are refused."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_common.validation.pattern import PatternError, compile_pattern

LONGEST = 1_000


@pytest.mark.parametrize(
    ("pattern", "found", "missed"),
    [
        ("^a$", ["a"], ["a\n", "ba", "\na"]),  # $ is the end of the text, not also the line end before it
        (r"\Aa\z", ["a"], ["a\n"]),
        ("a.b", ["xa bx", "a\rb"], ["a\nb"]),
        (r"^\d$", ["1"], ["\u0661", "a"]),  # ASCII only
        (r"^\w+$", ["a_9"], ["é", ""]),
        (r"^\s$", [" ", "\t", "\f"], ["\v", "\u00a0"]),
        (r"^\S$", ["\v", "é"], [" "]),
        (r"^[\d.-]+$", ["1.-"], ["a"]),
        ("^[^a]$", ["\n", "b"], ["a", "bb"]),
        ("^[a-]$", ["-", "a"], ["b"]),
        ("^[[&~|-]$", ["[", "&", "~", "|", "-"], ["a"]),
        (r"^[\]\\^]$", ["]", "\\", "^"], ["a"]),
        (r"^\x41\x{1F600}$", ["A😀"], ["A"]),
        ("^(ab|c)?d$", ["abd", "cd", "d"], ["abcd"]),
        ("a|^b|c$", ["xa", "b", "xc"], ["xb", "cx"]),
        ("^(?:a{2}|b{1,2}?|c{2,})$", ["aa", "b", "bb", "ccc"], ["a", "bbb", "c"]),
        ("^}]$", ["}]"], ["}"]),
        ("", ["", "a"], []),
        ("^(a|)$", ["a", ""], ["b"]),
    ],
)
def test_a_pattern_finds_what_re2_finds(pattern, found, missed):
    search = compile_pattern(pattern, LONGEST).search
    assert all(search(text) for text in found)
    assert not any(search(text) for text in missed)


@pytest.mark.parametrize(
    "pattern",
    [
        "(?i)a", "(?P<n>a)", "(?=a)", "(?!a)", r"\bword", r"\B", r"\pL", r"(a)\1", r"\Q.\E", r"\Z", r"\C",
        r"\ud800", r"\x{D800}",
        "a**", "a*+", "a++", "a??*", "*a", "a{,3}", "a{1", "a{1001}", "a{3,2}",
        "^*", "(a", "a)", "[a", "[]a]", "[^]a]", "[[:alpha:]]",
        "[b-a]", r"[a-\d]", r"[\D]", r"[\b]", "\\",
    ],
)  # fmt: skip
def test_what_python_reads_otherwise_is_refused(pattern):
    with pytest.raises(PatternError):
        compile_pattern(pattern, LONGEST)


@pytest.mark.parametrize(
    "pattern", ["^(a+)+$", "^(a|a)*$", "^(a?){50}$", "^a*a*a*$", "a*b*c", "^((a{0,9}){0,9}){0,9}$"]
)
def test_what_a_hostile_text_can_make_slow_is_refused(pattern):
    with pytest.raises(PatternError, match="very long"):
        compile_pattern(pattern, LONGEST)


def test_the_slowest_pattern_taken_is_fast_enough():
    search = compile_pattern("^a*a*$", LONGEST).search
    start = time.thread_time()
    assert not search("a" * (LONGEST - 1) + "b")
    assert time.thread_time() - start < 1


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        (r"^[^\x00-\x1f\x7f-\x9f]*$", "must not contain control characters"),
        (r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$", "must not contain control characters other than U+0009 and U+000A"),
        ("^[a-z0-9_]+$", "must contain only 'a' to 'z', '0' to '9' and '_'"),
        ("^[^/]*$", "must not contain '/'"),
        ("^[a-z]{2}$", "must be 2 characters out of 'a' to 'z'"),
        ("^$", "must be empty"),
        ("^item-[0-9]+$", "must be 'item-', then 1 or more characters out of '0' to '9'"),
        (
            "^[A-Za-z0-9][A-Za-z0-9._@+-]*$",
            (
                "must be one of 'A' to 'Z', 'a' to 'z' or '0' to '9', then any number of characters out of 'A' to 'Z', "
                "'a' to 'z', '0' to '9', '.', '_', '@', '+' and '-'"
            ),
        ),
        (
            "^(en|de)(-[A-Z]{2,3})?",
            "must begin with either 'en' or 'de', then 0 to 1 times ('-', then 2 to 3 characters out of 'A' to 'Z')",
        ),
        ("[^ ]$", "must end with a character other than ' '"),
        ("@", "must contain '@'"),
        (
            r"^(?:[^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0\x{2000}-\x{200f}][^\x00-\x1f\x7f-\x9f]*)?$",
            "must not contain control characters, and must have a character that can be seen",
        ),
        (
            r"^(?:[^/]*[^ ][^/]*)?$",
            (
                "must be 0 to 1 times (any number of characters other than '/', then a character other than ' ', "
                "then any number of characters other than '/')"
            ),
        ),
    ],
)
def test_a_pattern_of_characters_is_said_in_words(pattern, fault):
    assert compile_pattern(pattern, LONGEST).fault == fault


TEXTS = st.text(alphabet="ab-]^\\\n.$[", max_size=6)
CHARS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\n", "[a-b-]", r"\.", r"\^", r"\]"])
QUANTIFIERS = st.sampled_from(["", "", "", "?", "*", "+", "{2}", "{1,2}", "*?"])
PATTERNS = st.recursive(
    st.builds("{}{}".format, CHARS, QUANTIFIERS),
    lambda inner: st.one_of(
        st.builds("({}|{})".format, inner, inner), st.lists(inner, min_size=1, max_size=3).map("".join)
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(pattern=PATTERNS, start=st.sampled_from(["", "^"]), end=st.sampled_from(["", "$"]))
def test_every_pattern_can_be_said(pattern, start, end):
    try:
        fault = compile_pattern(f"{start}{pattern}{end}", LONGEST).fault
    except PatternError:
        return
    assert fault.startswith("must ")
    assert not set(fault) & set("*{}|")  # which is how a regular expression says it; none of them is in the texts


@settings(max_examples=500, deadline=None)
@given(pattern=PATTERNS, start=st.sampled_from(["", "^"]), end=st.sampled_from(["", "$"]), text=TEXTS)
def test_parsing_and_writing_changes_no_meaning(pattern, start, end, text):
    search = compile_pattern(f"{start}(?:{pattern}){end}", 6).search
    directly = re.search(rf"{start and chr(92) + 'A'}(?:{pattern}){end and chr(92) + 'Z'}", text)
    assert bool(search(text)) == bool(directly)
