"""Who may try a password: what holds guessing up."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: the name that was given, as `account_of` gives it, whether or not anybody has it; and where it came
    from, empty when unknown. Without an account it is a client's, for which only the address counts.
    """

    account: str
    address: str
    session: str = ""
    """The session of the account's that whoever tries has proved to be in, by an access token."""


class LoginGuard(Protocol):
    """Counts tries per account and per address. It never fails: a guard that is not there lets people in.

    An account is locked for a time after too many wrong passwords, whether or not anybody has it, so that a lock tells
    nothing about that. A try counts as wrong from its beginning: however many begin at once, no more get through than
    one after the other would.

    Who knows no password can lock an account, and again as soon as the lock is over. That does not lock its user out:

    - An address from which the account logged in or carried a session on is counted by itself. What others do
      elsewhere does not lock the account there, and somebody who shares that address locks it there only.
    - Who is in a session is counted by that session, wherever others try: the password can be changed from anywhere.
    - From a new address the user is locked out while the attack goes on, and `longest_pause` longer at the most. A try
      while the account is locked does not make it longer.
    - Tokens are not touched: whoever is logged in stays so, and refreshes.

    What holds up an address holds up neither the accounts that are at home there nor who is in a session, as both are
    counted by themselves; and programs with wrong secrets hold up no users, nor users them.
    """

    async def enter(self, attempt: Attempt) -> bool:
        """Say whether the account may be tried; one that may not is answered as a wrong password is, after the same
        work. When it may, one of the other verbs tells what became of it.

        Raises:
            RateLimitError: the address tries too often; or the account has as many tries as it may, and the last one is
                not judged yet.
        """
        ...

    async def failed(self, attempt: Attempt) -> None:
        """Note that the password was wrong, or that nobody has the name."""
        ...

    async def succeeded(self, attempt: Attempt) -> None:
        """Note that the password was right."""
        ...

    async def recognised(self, attempt: Attempt) -> None:
        """Note that the account is at home at the address: whoever is in a session of it has been there."""
        ...

    async def undecided(self, attempt: Attempt) -> None:
        """Note that nobody looked at the password, so that the try counts for nothing."""
        ...
