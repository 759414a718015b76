"""How calls are repeated where no policy says it, and what holds for all repetitions of a channel."""

from dataclasses import dataclass
from math import inf

from grpc import StatusCode


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """Defaults of methods without a policy, and the budget of all methods.

    A method without a policy is repeated only when its descriptor says that it is idempotent, or its path is among
    `idempotent_methods`: whoever repeats another one may do the work twice. The policy of a method wins over all but
    the budget.
    """

    max_retries: int = 3
    """Attempts after the first; 0 for none."""
    backoff_base: float = 1.0
    """Seconds of the widest first pause."""
    backoff_max: float = 10.0
    """Seconds of the widest pause of all."""
    codes: frozenset[StatusCode] = frozenset({StatusCode.UNAVAILABLE})
    idempotent_methods: frozenset[str] = frozenset()
    """Paths such as "/grpc.health.v1.Health/Check"."""
    budget_tokens: float = 100.0
    """The reserve of the channel; while less than half of it is left nothing is repeated (gRFC A6)."""
    budget_ratio: float = 0.2
    """What each success gives back: retries are at most this share of the calls, for long."""
    buffer_bytes: int = 256 * 1024
    """How much of a streamed request is kept to be sent again; a longer one is sent only once."""
    hedge_ratio: float = 0.05
    """The most hedges per call, for methods without side effects that the client may repeat; 0 for none."""
    hedge_delay: float | None = None
    """Seconds after which a call is hedged; None: what 95 of 100 calls of the method stay below, or twice the
    median where that is more."""

    def __post_init__(self) -> None:
        if self.max_retries < 0:
            raise ValueError(f"max_retries is 0 or more, not {self.max_retries}")
        if not 0 < self.backoff_base <= self.backoff_max < inf:
            raise ValueError("backoff_base must be above 0 and at most backoff_max, which must end")
        if not (0 <= self.hedge_ratio <= 1 and 0 <= self.budget_ratio < inf and 0 <= self.budget_tokens < inf):
            raise ValueError("hedge_ratio is from 0 to 1, and neither budget_ratio nor budget_tokens is below 0")
        if self.hedge_delay is not None and not 0 <= self.hedge_delay < inf:
            raise ValueError(f"hedge_delay is a number of seconds, not {self.hedge_delay}")
