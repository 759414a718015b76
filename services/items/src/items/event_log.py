"""Tells events to the log, until there is somebody else to tell them to."""

import structlog

from grpc_common.outbox.event import Event


class LogPublisher:
    """An EventPublisher that writes a line for each event; what the item holds stays out of it."""

    def __init__(self) -> None:
        self._log = structlog.get_logger(component="events")

    async def publish(self, event: Event) -> None:
        """Writes the line."""
        self._log.info("item changed", event_id=event.id, item_id=event.subject, at=event.at.isoformat())
