"""What somebody who proved to be somebody is given."""

from dataclasses import dataclass

from auth.access_token import AccessToken
from auth.refresh import RefreshToken


@dataclass(frozen=True, slots=True)
class Issued:
    """An access token, what it is for, and for a user what gets the next one."""

    access: AccessToken
    scopes: frozenset[str]
    refresh: RefreshToken | None = None


@dataclass(frozen=True, slots=True)
class Session(Issued):
    """The same for a user."""

    refresh: RefreshToken
