"""How many passwords may be tried."""

from dataclasses import dataclass
from typing import Final

MINUTE: Final = 60.0
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardLimits:
    """What an account and an address may do before they are held up; times in seconds.

    An account: `failures` wrong passwords in a row, then a pause that doubles with each further one up to
    `longest_pause`; all is forgotten `forgotten` after the last. With the defaults that is 15 tries in the first
    sixteen minutes and then four an hour. Waiting to be forgotten takes 16 of the longest pauses and gives no more than
    going on would. So an account has 35,000 tries a year at the most from all addresses together that are not its own,
    as many from each that is, and 2,900 in each of its sessions, which live 30 days: too few for a password that our
    policy let pass. (NIST SP 800-63B §5.2.2 allows 100 failures in a row, OWASP ASVS 2.2.1 100 an hour.)

    An address: `address_burst` tries at once, then `address_rate` a second, of users, and as many of clients. Those
    with the right password do not count once they are known to be right, so that an office behind one address is not
    held up by its own numbers, nor do those of accounts whose own address it is. This is against those who try one
    password at very many accounts. A client's right secret is never held up, as it cannot be guessed.

    `known` is how long an address counts as one of the account's own after its last right password or refresh.
    """

    failures: int = 10
    pause: float = 30.0
    longest_pause: float = 15 * MINUTE
    forgotten: float = 4 * HOUR
    known: float = 30 * DAY
    address_rate: float = 1.0
    address_burst: int = 100

    def __post_init__(self) -> None:
        if self.failures < 1 or self.address_burst < 1 or self.address_rate <= 0:
            raise ValueError("failures and address_burst must be at least 1, and address_rate more than 0")
        if not 0 < self.pause <= self.longest_pause < self.forgotten:
            raise ValueError(
                "a pause must be more than 0, not longer than the longest one, and that shorter than it takes until "
                f"all is forgotten ({self.forgotten:g} s)"
            )
        if self.known <= 0:
            raise ValueError("known must be more than 0")

    def pause_after(self, tries: int) -> float:
        """Return the pause after that many tries in a row: 0 while there are too few."""
        if tries < self.failures:
            return 0.0
        return min(self.longest_pause, self.pause * 2.0 ** min(tries - self.failures, MOST_DOUBLINGS))


MOST_DOUBLINGS: Final = 64
"""More than it takes from any pause to any other, and not too many for a number."""
