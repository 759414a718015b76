"""How much a channel may repeat before repeating makes things worse."""


class RetryBudget:
    """A bucket of tokens shared by all calls of a channel, as in gRFC A6's retry throttling.

    An attempt that fails in a way that could be retried takes a token, an attempt that is answered gives `ratio` back.
    While no more than half is left nobody retries and nobody hedges; the failures are told to the callers instead.
    """

    __slots__ = ("_half", "_ratio", "_tokens", "maximum")

    def __init__(self, maximum: float, ratio: float) -> None:
        self.maximum = maximum
        self._half = maximum / 2
        self._ratio = ratio
        self._tokens = maximum

    @property
    def tokens(self) -> float:
        """What is left: 0 to `maximum`."""
        return self._tokens

    @property
    def allows(self) -> bool:
        """Whether anybody may repeat now."""
        return self._tokens > self._half

    def answered(self) -> None:
        """Note an attempt that was answered, be it with an error that nobody would retry."""
        if self._tokens < self.maximum:
            self._tokens = min(self.maximum, self._tokens + self._ratio)

    def failed(self) -> None:
        """Note an attempt that failed in a way that could be retried, or whose server asked for no more of them."""
        self._tokens = max(0.0, self._tokens - 1.0)
