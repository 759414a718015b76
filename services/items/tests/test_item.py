"""What may become an item, and what may not."""

import math
from datetime import UTC, datetime

import pytest

from grpc_common.errors import ValidationError
from items.item import Item, ItemChange, NewItem, checked_id, first_version

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def a_new_item(**changes: object) -> NewItem:
    values = {"name": "Lamp", "description": "", "sku": "L-1", "quantity": 0, "price": 0.0}
    return NewItem(**(values | changes))  # type: ignore[arg-type]


def fields_of(error: ValidationError) -> list[str]:
    return [violation.field for violation in error.violations]


def test_a_new_item_becomes_one_that_is_on_sale() -> None:
    made = a_new_item(quantity=2, price=1.5).become("id-1", NOW)

    assert made == Item(
        id="id-1",
        name="Lamp",
        description="",
        sku="L-1",
        quantity=2,
        price=1.5,
        is_active=True,
        created_at=NOW,
        updated_at=NOW,
        version=first_version(NOW),
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "x"),
        ("name", "x" * 200),
        ("name", "🏳️‍🌈" * 33),
        ("name", "שלום\u200f עולם"),
        ("description", "x" * 2000),
        ("description", "two lines\r\n\tand a tab"),
        ("sku", "x" * 64),
        ("sku", "Az09._-"),
        ("quantity", 2**31 - 1),
        ("price", 5e-324),
        ("price", 1.7976931348623157e308),
    ],
)
def test_the_limits_are_inside(field: str, value: object) -> None:
    assert getattr(a_new_item(**{field: value}), field) == value


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("name", "", "must be 1 to 200 characters long, not 0"),
        ("name", "x" * 201, "must be 1 to 200 characters long, not 201"),
        ("name", "a\x00b", "must not contain the character U+0000"),
        ("name", "a\nb", "must not contain the character U+000A"),
        ("name", "a\x7f", "must not contain the character U+007F"),
        ("name", "\ud800", "must not contain the character U+D800"),
        ("description", "x" * 2001, "must be 0 to 2000 characters long, not 2001"),
        ("description", "a\x00", "must not contain the character U+0000"),
        ("sku", "", "must be 1 to 64 characters out of letters, digits, '.', '_' and '-'"),
        ("sku", "x" * 65, "must be 1 to 64 characters out of letters, digits, '.', '_' and '-'"),
        ("sku", "a b", "must be 1 to 64 characters out of letters, digits, '.', '_' and '-'"),
        ("sku", "a\n", "must be 1 to 64 characters out of letters, digits, '.', '_' and '-'"),
        ("sku", "é", "must be 1 to 64 characters out of letters, digits, '.', '_' and '-'"),
        ("sku", "٣", "must be 1 to 64 characters out of letters, digits, '.', '_' and '-'"),
        ("quantity", -1, "must be 0 to 2147483647"),
        ("quantity", 2**31, "must be 0 to 2147483647"),
        ("price", -0.01, "must be a finite number, 0 or more"),
        ("price", math.nan, "must be a finite number, 0 or more"),
        ("price", math.inf, "must be a finite number, 0 or more"),
        ("price", -math.inf, "must be a finite number, 0 or more"),
    ],
)
def test_a_bad_value_is_refused_by_the_field_s_name(field: str, value: object, fault: str) -> None:
    with pytest.raises(ValidationError) as refused:
        a_new_item(**{field: value})

    (violation,) = refused.value.violations
    assert (violation.field, violation.message) == (field, fault)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ValidationError) as refused:
        NewItem(name="\x00" * 201, description="\x00", sku="", quantity=-1, price=math.nan)

    assert fields_of(refused.value) == ["name", "name", "description", "sku", "quantity", "price"]


def test_a_change_holds_what_is_given_and_nothing_else() -> None:
    assert ItemChange(id="1").values == {}
    assert ItemChange(id="1", description="", quantity=0).values == {"description": "", "quantity": 0}


def test_a_bad_change_is_refused_with_all_its_faults() -> None:
    with pytest.raises(ValidationError) as refused:
        ItemChange(id="", name="", description="\x00", quantity=-1, price=math.inf)

    assert fields_of(refused.value) == ["id", "name", "description", "quantity", "price"]


def test_an_id_is_1_to_64_printable_characters() -> None:
    assert checked_id("x" * 64) == "x" * 64
    for bad in ("", "x" * 65, "a\x00"):
        with pytest.raises(ValidationError) as refused:
            checked_id(bad)
        assert fields_of(refused.value) == ["id"]
