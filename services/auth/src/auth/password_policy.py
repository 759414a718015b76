"""Which passwords are too weak to be taken."""

import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pydantic import SecretStr

from grpc_common.errors import ValidationError

MARKS: Final = 2
"""Combining marks that count on one character: as many as words are written with."""
LONGEST: Final = 256
"""Characters; the same limit is in the proto."""
DIFFERENT: Final = 6
"""How many different characters must be left once what everybody thinks of is taken out."""
RUN: Final = 4
"""Characters in a row of the alphabet or of the keyboard that count as one thought."""

# What the published lists of leaked passwords are made of, but for a rest that no short list would cover.
_COMMON: Final = (
    *("password", "passwort", "passw", "pass", "secret", "geheim", "letmein", "welcome", "willkommen", "changeme"),
    *("default", "admin", "administrator", "root", "login", "user", "guest", "test", "master", "access", "trustno"),
    *("qwerty", "qwertz", "azerty", "iloveyou", "love", "hello", "hallo", "monkey", "dragon", "shadow", "sunshine"),
    *("princess", "football", "baseball", "superman", "batman", "michael", "jordan", "summer", "winter", "spring"),
    *("autumn", "sommer", "freedom", "whatever", "starwars", "computer", "internet", "company", "meshwork"),
)
_ROWS: Final = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890",
    "qwertyuiop",
    "qwertzuiop",
    "asdfghjkl",
    "zxcvbnm",
    "yxcvbnm",
)
_NEXT: Final = frozenset(pair for row in _ROWS for way in (row, row[::-1]) for pair in pairwise(way))
_LEET: Final = str.maketrans("@4831!|05$7+", "aabeiiiosstt")
# Nothing of them is seen (Unicode, Default_Ignorable_Code_Point): joiners, variation selectors, tags, fillers.
_UNSEEN: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_YEAR: Final = re.compile(r"(?:19|20)\d\d")
_WORD: Final = re.compile("|".join(sorted(_COMMON, key=len, reverse=True)))


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """A password has `shortest` to 256 characters and is more than what everybody thinks of.

    So has it NIST SP 800-63B §3.1.1.2: there are no rules about kinds of characters. Instead common words, also with
    digits in place of letters, the user's own name, years, and runs of the alphabet and the keyboard are taken out, and
    enough must be left.

    Characters count as they were typed and as they are hashed (NFKC), and the fewer of both count: neither one that
    stands for a whole sentence makes a long password, nor what becomes one letter. What is not seen does not count, nor
    do more than MARKS combining marks on one character. Control characters are in no password (RFC 8265 §4.2).
    """

    shortest: int = 12

    def check(self, password: SecretStr, username: str = "", *, field: str = "password") -> None:
        """Raise ValidationError, naming `field` and quoting nothing, when the password is too weak for the user."""
        typed = password.get_secret_value()
        text = unicodedata.normalize("NFKC", typed)
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in typed):
            raise ValidationError("must have no control characters, nor halves of characters", field=field)
        if min(_count(typed), _count(text)) < self.shortest:
            raise ValidationError(f"must have at least {self.shortest} characters", field=field)
        if len(text) > LONGEST:
            raise ValidationError(f"must have at most {LONGEST} characters", field=field)
        seen = _UNSEEN.sub("", text).casefold()
        if min(len(set(typed)), len(set(_uncommon(seen, username.casefold())))) < DIFFERENT:
            raise ValidationError("is among the first that would be guessed: take several unrelated words", field=field)


def _count(text: str) -> int:
    """How many characters a person sees."""
    count = marks = 0
    for letter in _UNSEEN.sub("", text):
        marks = marks + 1 if unicodedata.category(letter) in ("Mn", "Me") else 0
        count += marks <= MARKS
    return count


def _uncommon(text: str, username: str) -> str:
    """What is left of `text` without what everybody thinks of."""
    for name in (username, username.partition("@")[0]):
        if len(name) >= RUN:
            text = text.replace(name, "")
    text = _without_words(text)
    return _without_runs(_YEAR.sub("", text))


def _without_words(text: str) -> str:
    # Both have the same length: what is found in one is cut out of the other.
    plain = text.translate(_LEET)
    kept, at = [], 0
    for found in _WORD.finditer(plain):
        kept.append(text[at : found.start()])
        at = found.end()
    return "".join([*kept, text[at:]])


def _without_runs(text: str) -> str:
    kept, run = [], text[:1]
    for before, after in pairwise(text):
        if before == after or (before, after) in _NEXT:
            run += after
            continue
        kept.append(run if len(run) < RUN else "")
        run = after
    return "".join([*kept, run if len(run) < RUN else ""])
