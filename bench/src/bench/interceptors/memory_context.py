"""A runtime without a wire: what a handler sees of a call, in memory."""

from typing import Any

import grpc


class MemoryContext:
    """The part of `grpc.aio.ServicerContext` that unary calls which go well use."""

    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = metadata
        self._trailers: tuple[tuple[str, str | bytes], ...] = ()

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what the caller sent along."""
        return self._metadata

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return what goes back with the status."""
        return self._trailers

    def set_trailing_metadata(self, metadata: Any) -> None:
        """Send `metadata` with the status."""
        self._trailers = metadata

    def peer(self) -> str:
        """Return who calls."""
        return "ipv4:127.0.0.1:50123"

    def time_remaining(self) -> float | None:
        """Return the caller's deadline: it has none."""
        return None

    def code(self) -> grpc.StatusCode | None:
        """Return the status, which nobody has set."""
        return None

    def done(self) -> bool:
        """Say that the call goes on."""
        return False
