"""Which passwords are taken."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from auth.password_policy import PasswordPolicy
from grpc_common.errors import ValidationError

POLICY = PasswordPolicy()
LEET = {"a": "@4", "e": "3", "i": "1!", "o": "0", "s": "5$", "t": "7"}


def refusal(password: str, username: str = "") -> str | None:
    try:
        POLICY.check(SecretStr(password), username)
    except ValidationError as error:
        assert error.field == "password"
        return error.message
    return None


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "aubergine-Kabel-19-Tinte",
        "Zwölf Boxkämpfer jagen",
        "9fQx2!mWz7Lc",
        "\u79c1\u306e\u732b\u306f\u9b5a\u3092\u98df\u3079\u307e\u3057\u305f\u304b",
        "x" * 230 + "correct horse battery",
    ],
)
def test_a_good_password_is_taken(password: str) -> None:
    assert refusal(password) is None


@pytest.mark.parametrize(
    "password",
    [
        "passwordpassword",
        "Password123456!",
        "P@ssw0rd2026!!!",
        "qwertyuiopasdfgh",
        "1234567890123",
        "abcdefghijklmnop",
        "aaaaaaaaaaaaaaaa",
        "abababababababab",
        "iloveyou-iloveyou",
        "Summer2026Summer2026",
        "MESHWORK-MESHWORK",
        "987654321987654321",
        "            ",
        "Adm1n1strat0r!!",
        "password-1984+?",
        "aaaabbbbccccddddeeeeffff",
    ],
)
def test_what_everybody_thinks_of_is_refused(password: str) -> None:
    assert refusal(password) == "is among the first that would be guessed: take several unrelated words"


@pytest.mark.parametrize("username", ["heisenberg.werner", "Heisenberg.Werner", "heisenberg.werner@example.org"])
def test_the_users_own_name_does_not_make_a_password(username: str) -> None:
    assert refusal("heisenberg.werner1!", username) is not None
    assert refusal("heisenberg.werner1!", "somebody") is None


@pytest.mark.parametrize(("length", "fits"), [(11, False), (12, True), (256, True), (257, False)])
def test_a_password_has_12_to_256_characters(length: int, fits: bool) -> None:
    password = ("kaffee-TINTE-9fQx2" * 20)[:length]

    assert (refusal(password) is None) == fits


def test_the_shortest_length_is_a_setting() -> None:
    PasswordPolicy(shortest=8).check(SecretStr("9fQx2!mW"))
    with pytest.raises(ValidationError, match="at least 15"):
        PasswordPolicy(shortest=15).check(SecretStr("9fQx2!mWz7Lc"))


@settings(max_examples=300, deadline=None)
@given(
    word=st.sampled_from(["password", "qwerty", "welcome", "iloveyou", "superman", "administrator"]),
    data=st.data(),
    year=st.sampled_from(["", "1999", "2026"]),
    end=st.sampled_from(["", "!", "!!", "1", "12", "123", "1234567", "?!"]),
    times=st.integers(2, 4),
)
def test_a_common_word_in_disguise_is_refused(word: str, data: st.DataObject, year: str, end: str, times: int) -> None:
    disguised = "".join(data.draw(st.sampled_from([letter, letter.upper(), *LEET.get(letter, "")])) for letter in word)

    assert refusal((disguised * times) + year + end) is not None


@settings(max_examples=300, deadline=None)
@given(password=st.text(max_size=300), username=st.text(max_size=64))
def test_any_text_is_judged_and_none_is_quoted(password: str, username: str) -> None:
    said = refusal(password, username)

    assert said is None or said.removesuffix("12 characters") != said or "256" in said or "guessed" in said


@settings(max_examples=100, deadline=None)
@given(password=st.text(string.ascii_letters + string.digits, max_size=11))
def test_what_is_too_short_is_refused(password: str) -> None:
    assert refusal(password) == "must have at least 12 characters"


def test_the_field_is_the_one_of_the_request() -> None:
    with pytest.raises(ValidationError) as caught:
        POLICY.check(SecretStr("short"), field="new_password")

    assert caught.value.field == "new_password"
