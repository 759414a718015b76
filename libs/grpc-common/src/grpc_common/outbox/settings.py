"""What a service that tells events of its database can be told."""

from pydantic import Field

from grpc_common.database.settings import DatabaseSettings
from grpc_common.outbox.relay import RelayLimits


class OutboxSettings(DatabaseSettings):
    """Whether this process tells events, and how."""

    relay: bool = Field(default=True, description="Whether this process tells the events of the outbox.")
    relay_poll: float = Field(
        default=1.0, gt=0, description="Seconds between two looks when nobody says there are any."
    )
    relay_timeout: float = Field(default=5.0, gt=0, description="Seconds that telling one event may take.")
    relay_pause: float = Field(default=60.0, gt=0, description="Seconds until an event is tried again, at most.")
    relay_lag: float = Field(default=60.0, gt=0, description="Seconds an event may wait before health is degraded.")
    relay_kept: float = Field(default=3_600, ge=0, description="Seconds that told events are kept.")
    relay_at_once: int = Field(default=100, ge=1, le=1_000, description="The most events told at once.")

    @property
    def relay_limits(self) -> RelayLimits:
        """What the relay may take."""
        return RelayLimits(
            poll=self.relay_poll,
            timeout=self.relay_timeout,
            pause=self.relay_pause,
            kept=self.relay_kept,
            lag=self.relay_lag,
            at_once=self.relay_at_once,
        )
