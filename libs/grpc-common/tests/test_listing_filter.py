"""What filters say, and what is said of bad ones; databases answer them in tests/listing."""

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Boolean, Column, DateTime, Double, Integer, MetaData, String, Table

from grpc_common.errors import ValidationError
from grpc_common.listing.condition import condition
from grpc_common.listing.field import Field, Kind
from grpc_common.listing.filter import read_filter
from grpc_common.listing.filter_syntax import MAX_DEPTH, MAX_LENGTH, MAX_TERMS
from grpc_common.listing.filter_tree import All, Any, Comparison, Like, Not, Present

LAMPS = Table(
    "lamps",
    MetaData(),
    Column("id", String(36)),
    Column("name", String(200)),
    Column("watts", Integer),
    Column("price", Double),
    Column("is_lit", Boolean),
    Column("made", DateTime(timezone=True)),
)
NAME = Field(name="name", column=LAMPS.c.name, kind=Kind.TEXT, searched=True)
WATTS = Field(name="watts", column=LAMPS.c.watts, kind=Kind.INTEGER)
PRICE = Field(name="price", column=LAMPS.c.price, kind=Kind.NUMBER)
IS_LIT = Field(name="is_lit", column=LAMPS.c.is_lit, kind=Kind.BOOLEAN)
MADE = Field(name="made.at", column=LAMPS.c.made, kind=Kind.TIMESTAMP)
FIELDS = {field.name: field for field in (NAME, WATTS, PRICE, IS_LIT, MADE)}


def has(word):
    return Any((Like(NAME, ("", word, "")),))


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("", All(())),
        (" \t\r\n", All(())),
        ("watts = 5", Comparison(WATTS, "=", 5)),
        ("watts=-5", Comparison(WATTS, "=", -5)),
        ("watts!=+5", Comparison(WATTS, "!=", 5)),
        ("watts >= '7'", Comparison(WATTS, ">=", 7)),
        ("watts:7", Comparison(WATTS, "=", 7)),
        ("watts:*", Present(WATTS)),
        ("price < 2.997e9", Comparison(PRICE, "<", 2.997e9)),
        ("price<=.5", Comparison(PRICE, "<=", 0.5)),
        ("is_lit = true", Comparison(IS_LIT, "=", True)),
        ("is_lit != false", Comparison(IS_LIT, "!=", False)),
        ("made.at > 2012-04-21T11:30:00-04:00", Comparison(MADE, ">", datetime(2012, 4, 21, 15, 30, tzinfo=UTC))),
        ('made.at > "2012-04-21t11:30:00.50z"', Comparison(MADE, ">", datetime(2012, 4, 21, 11, 30, 0, 500_000, UTC))),
        (
            "made.at > 2012-04-21T11:30:00.123456000Z",
            Comparison(MADE, ">", datetime(2012, 4, 21, 11, 30, 0, 123456, UTC)),
        ),
        ("made.at >= 0001-01-01T00:00:00Z", Comparison(MADE, ">=", datetime(1, 1, 1, tzinfo=UTC))),
        ("made.at <= 9999-12-31T23:59:59.999999999Z", Comparison(MADE, "<=", datetime.max.replace(tzinfo=UTC))),
        ("made.at < 2026-01-02T00:00:00.000001001Z", Comparison(MADE, "<=", datetime(2026, 1, 2, 0, 0, 0, 1, UTC))),
        ("made.at >= 2026-01-02T00:00:00.000000001Z", Comparison(MADE, ">", datetime(2026, 1, 2, tzinfo=UTC))),
        ("made.at = 2026-01-02T00:00:00.000000001Z", Not(All(()))),
        ("made.at != 2026-01-02T00:00:00.000000001Z", All(())),
        ("name = lamp", Comparison(NAME, "=", "lamp")),
        ("name = AND_then", Comparison(NAME, "=", "AND_then")),
        ("name = 'AND'", Comparison(NAME, "=", "AND")),
        ('name = "a \\"b\\" c"', Comparison(NAME, "=", 'a "b" c')),
        ("name = 'it\\'s'", Comparison(NAME, "=", "it's")),
        ("name = ''", Comparison(NAME, "=", "")),
        ("name = *.foo", Like(NAME, ("", ".foo"))),
        ("name = 'a*b**c'", Like(NAME, ("a", "b", "c"))),
        ("name = *", Like(NAME, ("", ""))),
        ("name != 'a*'", Not(Like(NAME, ("a", "")))),
        ("name = 'a\\*'", Comparison(NAME, "=", "a*")),
        ("name < 'a\\*'", Comparison(NAME, "<", "a*")),
        ("name:lamp", Like(NAME, ("", "lamp", ""))),
        ("name:'*lamp'", Like(NAME, ("", "lamp", ""))),
        ("name:*", Present(NAME)),
        ("name:'*'", Like(NAME, ("", ""))),
        ("lamp", has("lamp")),
        ("'watts'", has("watts")),
        ("42", has("42")),
        ("-42", Not(has("42"))),
        ("a b", All((has("a"), has("b")))),
        ("a AND b OR c", All((has("a"), Any((has("b"), has("c")))))),
        ("a OR b AND c", All((Any((has("a"), has("b"))), has("c")))),
        ("a b AND c OR d", All((has("a"), has("b"), Any((has("c"), has("d")))))),
        ("(a AND b) OR c", Any((All((has("a"), has("b"))), has("c")))),
        ("NOT a OR -b", Any((Not(has("a")), Not(has("b"))))),
        ("NOT(a b)", Not(All((has("a"), has("b"))))),
        ("-(a)", Not(has("a"))),
        ("-watts = 5", Not(Comparison(WATTS, "=", 5))),
        ("NOTE ORb ANDy", All((has("NOTE"), has("ORb"), has("ANDy")))),
        ("a-b", has("a-b")),
        ("ä🧑‍🚀", has("ä🧑‍🚀")),
    ],
)
def test_what_a_filter_says(text, meaning):
    assert read_filter(text, FIELDS) == meaning


@pytest.mark.parametrize(
    ("text", "at", "sentence"),
    [
        ("a AND", 6, "a comparison such as price > 5, a word, “(”, NOT or - is expected, not the end"),
        ("AND a", 1, "is expected, not “AND”"),
        ("a OR OR b", 6, "is expected, not “OR”"),
        ("NOT NOT a", 5, "is expected, not “NOT”"),
        ("- a", 1, "is expected, not “-”"),
        ("(a", 3, "an operator, AND, OR, another term or “)” is expected, not the end"),
        ("(a))", 4, "AND, OR, another term or the end is expected, not “)”"),
        ("()", 2, "is expected, not “)”"),
        ("a, b", 2, "or the end is expected, not “,”"),
        ("watts =", 8, "a value is expected, not the end"),
        ("watts == 5", 8, "a value is expected, not “=”"),
        ("watts = AND price > 5", 9, "a value is expected, not “AND”"),
        ("watts = (5 OR 6)", 9, "a value is expected, not “(”"),
        ("watts > 5 = 6", 11, "AND, OR, another term or the end is expected, not “=”"),
        ("watts ! 5", 7, "an operator, AND, OR, another term or the end is expected, not “!”"),
        ("'name' = 5", 8, "AND, OR, another term or the end is expected, not “=”"),
        ('name = "lamp', 8, "the string that begins here does not end"),
        ("name = 'lamp\\'", 8, "the string that begins here does not end"),
        ("near(5)", 5, "there is no function “near”"),
        ("a\0", 2, "the character U+0000 is not allowed"),
        ("name = '\ud800'", 9, "the character U+D800 is not allowed"),
        ("colour = red", 1, "there is no field “colour”. The fields are name, watts, price, is_lit, made.at."),
        ("name.first = a", 1, "there is no field “name.first”"),
        ("5 < watts", 1, "there is no field “5”"),
        ("watts", 1, "watts is a field: compare it, or put it in quotation marks to look for the word"),
        ("-is_lit", 2, "is_lit is a field"),
        ("a and b", 3, "write AND, or put it in quotation marks"),
        ("not a", 1, "write NOT, or"),
        ("watts = 9.5", 9, "watts takes an integer from -2^63 to 2^63-1, such as 42, not “9.5”"),
        ("watts = 9223372036854775808", 9, "watts takes an integer"),
        ("watts = ٣", 9, "watts takes an integer"),
        ("watts = true", 9, "watts takes an integer"),
        ("watts = 5*", 9, "watts takes an integer"),
        ("watts = '*'", 9, "watts takes an integer"),
        ("price = 1e999", 9, "price takes a number, such as 9.5 or 2.997e9, not “1e999”"),
        ("price = NaN", 9, "price takes a number"),
        ("price = inf", 9, "price takes a number"),
        ("is_lit = TRUE", 10, "is_lit takes true or false, not “TRUE”"),
        ("is_lit = 1", 10, "is_lit takes true or false"),
        ("is_lit < true", 8, "is_lit is true or false: = or != is expected, not <"),
        ("made.at > 2026", 11, "made.at takes an RFC 3339 time no finer than nanoseconds"),
        ("made.at > 2026-02-29T00:00:00Z", 11, "made.at takes an RFC 3339 time"),
        ("made.at > 2026-01-01T00:00:00", 11, "made.at takes an RFC 3339 time"),
        ("made.at > 2026-01-01T00:00:00.1234567891Z", 11, "made.at takes an RFC 3339 time"),
        ("made.at > 0001-01-01T00:00:00+01:00", 11, "made.at takes an RFC 3339 time"),
        ("made.at > 2026-01-01T00:00:00+99:00", 11, "made.at takes an RFC 3339 time"),
        ("name < a*", 8, "* stands for any text with =, != and : only; after < write \\* for the character itself"),
        ("name = 'a\\n'", 8, "\\n means nothing: a backslash stands before *, \\, \" or ' only"),
        ("name = a\\", 8, "a backslash stands before *, \\, \" or ' only"),
    ],
)
def test_a_bad_filter_is_refused_with_the_place_and_what_was_expected(text, at, sentence):
    with pytest.raises(ValidationError) as refused:
        read_filter(text, FIELDS)

    assert refused.value.field == "filter"
    assert refused.value.message.startswith(f"at character {at}: ")
    assert sentence in refused.value.message


def test_where_no_field_is_searched_a_word_is_refused():
    with pytest.raises(
        ValidationError, match="at character 1: a comparison is expected: words are not looked for here"
    ):
        read_filter("lamp", {"watts": WATTS})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a" * (MAX_LENGTH + 1), "has 2001 characters, and may have 2000"),
        ("(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1), "at character 17: more than 16 parentheses"),
        ("-(" * 600, "at character 34: more than 16 parentheses stand in each other"),
        ("(" * MAX_LENGTH, "at character 17: more than 16 parentheses stand in each other"),
        ("a " * (MAX_TERMS + 1), "at character 129: there are more than 64 terms"),
        ("watts=1 " * 250, "there are more than 64 terms"),
        ("a OR " * 400, "there are more than 64 terms"),
        ('"' + '\\"' * 999, "at character 1: the string that begins here does not end"),
    ],
)
def test_a_filter_bomb_is_refused(text, sentence):
    before = time.process_time()
    with pytest.raises(ValidationError) as refused:
        read_filter(text, FIELDS)
    assert sentence in refused.value.message
    assert time.process_time() - before < 0.5  # measured: 3 ms


def test_the_largest_filter_that_is_allowed_is_compiled():
    text = (
        "(" * MAX_DEPTH + " OR ".join(f"name = '{'*x' * 3}{number}'" for number in range(MAX_TERMS)) + ")" * MAX_DEPTH
    )

    assert str(condition(read_filter(text, FIELDS))).count("LIKE") == MAX_TERMS


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from(
                [
                    *FIELDS,
                    "AND",
                    "OR",
                    "NOT",
                    "-",
                    "(",
                    ")",
                    "=",
                    "<",
                    ":",
                    "!=",
                    "5",
                    "true",
                    "'",
                    '"',
                    "\\",
                    "*",
                    "a",
                    " ",
                ]
            ),
            max_size=40,
        ).map("".join),
    )
)
def test_any_text_is_a_filter_or_is_refused(text):
    """R7: wild input is understood or refused as ValidationError naming `filter`, and nothing else happens."""
    try:
        meaning = read_filter(text, FIELDS)
    except ValidationError as refused:
        assert refused.field == "filter"
    else:
        condition(meaning).compile()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"kind": Kind.INTEGER, "column": LAMPS.c.watts, "searched": True}, "it cannot be searched"),
        ({"kind": Kind.TEXT, "column": Column("x", String)}, "it cannot be sortable"),
    ],
)
def test_a_field_that_cannot_be_is_refused(words, sentence):
    with pytest.raises(ValueError, match=sentence):
        Field(name="x", **words)
