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


TWELVE = "must have at least 12 characters"
MARKS = "".join(map(chr, range(0x300, 0x310)))


@pytest.mark.parametrize(
    "password",
    [
        "\ufdfa",  # one character that NFKC makes eighteen of
        "\ufdfa\ufdfb" * 5 + "x",
        "9fQx2!mWz7L\u200b",  # nothing is seen of what is behind the eleven
        "9fQx2!mWz7L" + "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u180e\u3164\U000e0041",
        "".join(chr(0xFE00 + n) for n in range(16)),
        "".join(chr(0xE0100 + n) for n in range(240)),
        "9\ufe0ff\ufe0fQ\ufe0fx\ufe0f2\ufe0f!\ufe0fm\ufe0f",
        "x" + MARKS,
        "\u1112\u1161\u11ab\u1100\u1173\u11af" * 5,  # Korean letters, three of which are one syllable
        "e\u0301a\u0301o\u0301u\u0301i\u0301c\u0327",
    ],
)
def test_what_is_seen_of_it_is_too_short(password: str) -> None:
    assert refusal(password) == TWELVE


@pytest.mark.parametrize(
    "password",
    [
        "\u0e02\u0e49\u0e32\u0e27\u0e1c\u0e31\u0e14\u0e44\u0e01\u0e48\u0e44\u0e02\u0e48",  # Thai
        "\u0939\u093f\u0928\u094d\u0926\u0940 \u0916\u093e\u0928\u093e \u092e\u0940\u0920\u093e",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 und 9 Katzen",  # a family of emoji, joined
        "\u2764\ufe0f 9fQx2!mWz7Lc",
        "Cafe\u0301 cre\u0300me und Tee",
        "\ufdfa Zw\u00f6lf Boxk\u00e4mpfer",
    ],
)
def test_words_of_any_script_are_taken(password: str) -> None:
    assert refusal(password) is None


def test_one_character_repeated_is_one_however_much_it_stands_for() -> None:
    assert refusal("\ufdfa" * 12) == "is among the first that would be guessed: take several unrelated words"


def test_what_is_not_seen_hides_no_common_word() -> None:
    assert refusal("pass\u200bword\u2060pass\u00adword1") is not None
    assert refusal("heisen\u200bberg.wern\u200ber1!", "heisenberg.werner") is not None


@pytest.mark.parametrize("letter", ["\0", "\x1b", "\n", "\x7f", "\x85", "\ud800", "\udcff"])
def test_a_control_character_or_half_a_character_is_refused(letter: str) -> None:
    assert refusal("correct horse" + letter + "battery") == "must have no control characters, nor halves of characters"


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=11), st.data())
def test_nothing_unseen_makes_a_short_password_long_enough(password: str, data: st.DataObject) -> None:
    unseen = st.sampled_from("\u200b\u200d\ufe0f\ufeff\u00ad\u2060\U000e0101")
    padded = "".join(letter + data.draw(st.text(unseen, max_size=4)) for letter in password)

    assert refusal(padded) == TWELVE


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

    assert (
        said is None
        or "control" in said
        or said.removesuffix("12 characters") != said
        or "256" in said
        or "guessed" in said
    )


@settings(max_examples=100, deadline=None)
@given(password=st.text(string.ascii_letters + string.digits, max_size=11))
def test_what_is_too_short_is_refused(password: str) -> None:
    assert refusal(password) == "must have at least 12 characters"


def test_the_field_is_the_one_of_the_request() -> None:
    with pytest.raises(ValidationError) as caught:
        POLICY.check(SecretStr("short"), field="new_password")

    assert caught.value.field == "new_password"
