"""Who asks, as far as that is known before anybody has proved anything."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """The network address of who asks, empty when unknown."""

    address: str = ""
