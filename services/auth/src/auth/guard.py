"""Who may try a password: what holds guessing up."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: the name that was given, as `account_of` gives it, whether or not anybody has it; and where it came
    from, empty when unknown.
    """

    account: str
    address: str


class LoginGuard(Protocol):
    """Counts tries per account and per address. It never fails: a guard that is not there lets people in."""

    async def enter(self, attempt: Attempt) -> bool:
        """Say whether the account may be tried; one that may not is answered as a wrong password is, after the same
        work.

        Raises:
            RateLimitError: the address tries too often.
        """
        ...

    async def failed(self, attempt: Attempt) -> None:
        """Note that the password was wrong, or that nobody has the name."""
        ...

    async def succeeded(self, attempt: Attempt) -> None:
        """Note that the password was right."""
        ...
