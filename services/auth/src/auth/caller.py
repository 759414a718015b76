"""Who asks, as far as that is known."""

from dataclasses import dataclass, replace
from typing import Final, Self


@dataclass(frozen=True, slots=True)
class Caller:
    """The network address of who asks, empty when unknown, and the id of the user, administrator or client that has
    proved to be the one who asks; empty before.
    """

    address: str = ""
    actor: str = ""

    def proved(self, actor: str) -> Self:
        """Return the same caller as who it has proved to be."""
        return replace(self, actor=actor)


NOBODY: Final = Caller()
"""Who makes what the service does by itself."""
