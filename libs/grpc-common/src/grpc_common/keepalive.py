"""How both ends of a connection find out that the other is gone, from one constant, so that they agree."""

from dataclasses import dataclass
from typing import Final

SHORTEST: Final = 0.01
DAY: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Keepalive:
    """A client pings after `interval` seconds of silence while calls run, and gives up after `timeout` more.

    A server takes pings at half that interval: a client of the same preset can never look like an attacker, who is
    sent away with ENHANCE_YOUR_CALM (gRFC A8).
    """

    interval: float = 20.0
    """Seconds, from 0.01 to a day."""
    timeout: float = 10.0
    """Seconds, from 0.01 to a day."""

    def __post_init__(self) -> None:
        # Core takes milliseconds in 32 bits, and 0 as for ever.
        if not (SHORTEST <= self.interval <= DAY and SHORTEST <= self.timeout <= DAY):
            raise ValueError(f"interval and timeout are {SHORTEST:g} to {DAY:g} seconds")

    def client_options(self) -> tuple[tuple[str, int], ...]:
        """Return the options of a channel."""
        return (
            ("grpc.keepalive_time_ms", round(self.interval * 1000)),
            *self._given_up(),
            ("grpc.keepalive_permit_without_calls", 0),
            # A stream on which nothing is said for long is pinged all the same.
            ("grpc.http2.max_pings_without_data", 0),
        )

    def server_options(self) -> tuple[tuple[str, int], ...]:
        """Return the options of a server."""
        return (
            ("grpc.http2.min_ping_interval_without_data_ms", round(self.interval * 500)),
            ("grpc.keepalive_permit_without_calls", 1),
            # The server notices clients that are gone, too.
            ("grpc.keepalive_time_ms", round(self.interval * 3000)),
            *self._given_up(),
            ("grpc.http2.max_pings_without_data", 0),
        )

    def _given_up(self) -> tuple[tuple[str, int], ...]:
        milliseconds = round(self.timeout * 1000)
        # The first alone does nothing: core waits for a ping's answer for as long as the second says, a minute.
        return (("grpc.keepalive_timeout_ms", milliseconds), ("grpc.http2.ping_timeout_ms", milliseconds))


KEEPALIVE: Final = Keepalive()
"""What servers and clients of this library use."""
