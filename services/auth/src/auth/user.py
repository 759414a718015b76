"""A user: who may log in, and what for."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import SecretStr

ID_MAX: Final = 64
USERNAME_MAX: Final = 64
ADMIN: Final = "admin"
"""The role of who may do everything to users and clients; there is always somebody who has it."""

_USERNAME: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")


@dataclass(frozen=True, slots=True)
class User:
    """One user, as kept."""

    id: str
    username: str
    """As `account_of` gives it, unique."""
    password_hash: SecretStr = field(repr=False)
    roles: frozenset[str]
    disabled: bool
    created_at: datetime
    updated_at: datetime
    version: int
    """Another one after every change but that of the password's hash: what the etag says."""

    def __post_init__(self) -> None:
        if not _USERNAME.fullmatch(self.username):
            raise ValueError("a user name has other characters, or capital letters")


def account_of(username: str) -> str:
    """Return the name by which a user is found, whoever types it how: capital letters are small ones."""
    return username.lower()
