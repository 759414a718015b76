"""A clock that goes only when told to."""


class FixedClock:
    """Seconds since whatever the reader of the clock means; hand it to what takes a clock, in tests."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let that much time pass."""
        self.now += seconds
