"""Orders, page sizes and page tokens; databases go through whole lists in tests/listing."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, DateTime, Double, Integer, MetaData, String, Table

from grpc_common.errors import ValidationError
from grpc_common.listing.field import Field, Kind
from grpc_common.listing.listed import Listed
from grpc_common.listing.page_size import page_size
from grpc_common.listing.page_token import MAX_LENGTH, PageTokens

LAMPS = Table(
    "lamps",
    MetaData(),
    Column("id", String(64)),
    Column("sku", String(64)),
    Column("name", String(200)),
    Column("watts", Integer),
    Column("price", Double),
    Column("made", DateTime(timezone=True)),
)
ID = Field(name="id", column=LAMPS.c.id, kind=Kind.TEXT, unique=True)
FIELDS = [
    ID,
    Field(name="sku", column=LAMPS.c.sku, kind=Kind.TEXT, unique=True),
    Field(name="name", column=LAMPS.c.name, kind=Kind.TEXT),
    Field(name="note", column=LAMPS.c.name, kind=Kind.TEXT, sortable=False),
    Field(name="watts", column=LAMPS.c.watts, kind=Kind.INTEGER),
    Field(name="price", column=LAMPS.c.price, kind=Kind.NUMBER),
    Field(name="made", column=LAMPS.c.made, kind=Kind.TIMESTAMP),
]
LISTED = Listed(FIELDS, key="id")
TOKENS = PageTokens(b"a secret of this test")

positions = st.fixed_dictionaries(
    {
        "id": st.text(max_size=64),
        "sku": st.text(max_size=64),
        "name": st.text(max_size=200) | st.just("\U0010ffff" * 200) | st.text("ÿ🧑\0", min_size=150, max_size=200),
        "watts": st.integers(-(2**63), 2**63 - 1),
        "price": st.floats(allow_nan=False, allow_infinity=False),
        "made": st.datetimes(timezones=st.just(UTC)),
    }
)
orders = st.lists(
    st.tuples(
        st.sampled_from([field.name for field in FIELDS if field.sortable]), st.sampled_from(["", " desc", " asc"])
    ),
    unique_by=lambda part: part[0],
).map(lambda parts: ", ".join(map("".join, parts)))


def clauses(order_by):
    return [str(clause).removeprefix("lamps.") for clause in LISTED.query(order_by=order_by).order_by]


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("", ["id ASC"]),
        ("  ", ["id ASC"]),
        ("name", ["name ASC", "id ASC"]),
        ("name desc", ["name DESC", "id DESC"]),
        (" name ,  price   desc ", ["name ASC", "price DESC", "id DESC"]),
        ("price DESC, name asc", ["price DESC", "name ASC", "id ASC"]),
        ("sku", ["sku ASC"]),
        ("id desc, name", ["id DESC"]),
        ("watts, sku desc, name", ["watts ASC", "sku DESC"]),
    ],
)
def test_an_order_ends_with_a_unique_field(order_by, expected):
    assert clauses(order_by) == expected


@pytest.mark.parametrize(
    ("order_by", "sentence"),
    [
        ("colour", "cannot sort by “colour”: expected are fields out of id, sku, name, watts, price, made, each alone"),
        ("note", "cannot sort by “note”"),
        ("name up", "cannot sort by “name up”"),
        ("name,", "cannot sort by “”"),
        ("name desc desc", "cannot sort by “name desc desc”"),
        ("name; DROP TABLE lamps", "cannot sort by “name; DROP TABLE lamps”"),
        ("name, watts, name desc", "names name twice"),
        ("name," * 200, "has 1000 characters, and may have 500"),
    ],
)
def test_a_bad_order_is_refused(order_by, sentence):
    with pytest.raises(ValidationError) as refused:
        LISTED.query(order_by=order_by)

    assert refused.value.field == "order_by"
    assert sentence in refused.value.message


@pytest.mark.parametrize(("asked", "size"), [(0, 50), (1, 1), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)])
def test_a_page_size(asked, size):
    assert page_size(asked, default=50, most=1000) == size


def test_a_negative_page_size_is_refused():
    with pytest.raises(ValidationError, match="must be 0 or more") as refused:
        page_size(-1, default=50, most=1000)
    assert refused.value.field == "page_size"


def test_the_first_page_has_no_token():
    assert TOKENS.read("", LISTED.query()) is None


@settings(max_examples=300, deadline=None)
@given(row=positions, order_by=orders, filter_=st.sampled_from(["", "watts > 5"]))
def test_a_token_brings_back_the_position(row, order_by, filter_):
    query = LISTED.query(filter=filter_, order_by=order_by, resource="rooms/7")
    position = query.position(row)

    token = TOKENS.write(query, position)

    assert TOKENS.read(token, query) == position
    assert len(token) <= MAX_LENGTH
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@settings(max_examples=300, deadline=None)
@given(
    row=positions,
    at=st.integers(0),
    character=st.characters() | st.sampled_from("ABCabc019-_=+/ \n"),
    cut=st.booleans(),
)
def test_a_token_that_was_changed_is_refused(row, at, character, cut):
    query = LISTED.query(order_by="name")
    token = TOKENS.write(query, query.position(row))
    at %= len(token)
    changed = token[:at] if cut else token[:at] + character + token[at + 1 :]
    if changed in {token, ""}:
        return

    with pytest.raises(ValidationError, match="is not a token of this list") as refused:
        TOKENS.read(changed, query)
    assert refused.value.field == "page_token"


@settings(max_examples=300, deadline=None)
@given(
    token=st.text(min_size=1)
    | st.binary(min_size=1, max_size=900).map(lambda data: base64.urlsafe_b64encode(data).decode())
)
def test_what_is_no_token_is_refused(token):
    with pytest.raises(ValidationError, match="is not a token of this list; start again without one"):
        TOKENS.read(token, LISTED.query())


@pytest.mark.parametrize(
    "other",
    [
        {"filter": "watts > 6", "order_by": "name", "resource": "r"},
        {"filter": "", "order_by": "name", "resource": "r"},
        {"filter": "watts > 5", "order_by": "name desc", "resource": "r"},
        {"filter": "watts > 5", "order_by": "watts", "resource": "r"},
        {"filter": "watts > 5", "order_by": "name", "resource": "s"},
    ],
)
def test_a_token_is_for_the_same_arguments_only(other):
    query = LISTED.query(filter="watts > 5", order_by="name", resource="r")
    token = TOKENS.write(query, ("Lamp", "1"))

    with pytest.raises(ValidationError, match="belongs to a call with another filter, order_by or resource"):
        TOKENS.read(token, LISTED.query(**other))


def test_an_order_said_in_other_words_is_the_same():
    token = TOKENS.write(LISTED.query(order_by="name"), ("Lamp", "1"))

    assert TOKENS.read(token, LISTED.query(order_by="  name ASC , id")) == ("Lamp", "1")


def test_a_token_shows_nothing_of_the_position():
    query = LISTED.query(order_by="name")
    token = TOKENS.write(query, ("a secret lamp", "1"))

    assert b"secret" not in base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


def test_tokens_outlive_a_change_of_the_secret_when_it_is_kept_as_an_older_one():
    query = LISTED.query()
    old, both, new = PageTokens(b"o" * 16), PageTokens(b"n" * 16, b"o" * 16), PageTokens(b"n" * 16)
    token = old.write(query, ("1",))

    assert both.read(token, query) == ("1",)
    assert new.read(both.write(query, ("1",)), query) == ("1",)
    with pytest.raises(ValidationError):
        new.read(token, query)


def test_a_short_secret_is_refused():
    with pytest.raises(ValueError, match="at least 16 bytes, not 5"):
        PageTokens(b"short")


def test_a_position_that_would_not_fit_a_token_is_found_when_the_list_is_declared():
    wide = [Field(name=f"f{n}", column=Column("x", String(200)), kind=Kind.TEXT) for n in range(2)]
    wide[1] = Field(name="wordy", column=Column("x", String(300)), kind=Kind.TEXT)
    with pytest.raises(
        ValueError,
        match=r"take \d+ bytes \(wordy \d+, f0 \d+, id \d+\), a page token has room for \d+: let wordy be shorter",
    ):
        Listed([ID, *wide], key="id")


def test_a_key_is_unique():
    with pytest.raises(ValueError, match="watts cannot end an order"):
        Listed(FIELDS, key="watts")


def test_times_are_aware():
    query = LISTED.query(order_by="made")

    assert TOKENS.read(TOKENS.write(query, (datetime(1, 1, 1, tzinfo=UTC), "1")), query) == (
        datetime(1, 1, 1, tzinfo=UTC),
        "1",
    )
