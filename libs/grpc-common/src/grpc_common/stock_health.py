"""grpc.health.v1 from the stock package, taught how to stop."""

import asyncio
from typing import Any

from grpc_health.v1 import health, health_pb2

from grpc_common.errors import ExternalServiceError


class StockHealthServicer(health.aio.HealthServicer):  # type: ignore[misc]  # the package has no types
    """The stock servicer, with watches that end when the server stops instead of holding up its drain."""

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[asyncio.Timeout] = set()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:  # noqa: N802
        """Stream the status of one service whenever it changes."""
        watch = asyncio.timeout(None)
        try:
            async with watch:
                self._watches.add(watch)
                await super().Watch(request, context)
        except TimeoutError:
            raise ExternalServiceError("this server is stopping") from None
        finally:
            self._watches.discard(watch)

    async def stop(self) -> None:
        """End every open Watch with UNAVAILABLE, so that its client looks for another server."""
        for watch in self._watches:
            watch.reschedule(asyncio.get_running_loop().time())
