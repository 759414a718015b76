"""How long a target takes to answer a method."""

from typing import Final

ROOM: Final = 2.0
"""A call has time enough if it has this many times what the slow ones of late took."""
_FADE: Final = 1 / 16


class Latency:
    """The seconds that answers took of late: it rises with the first slow one and falls with many fast ones."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds: float | None = None
        """None until there was an answer."""

    def record(self, seconds: float) -> None:
        """Note an answer after `seconds`."""
        before = self.seconds
        if before is None or seconds >= before:
            self.seconds = seconds
        else:
            self.seconds = before - (before - seconds) * _FADE
