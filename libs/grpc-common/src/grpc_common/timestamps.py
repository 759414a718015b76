"""Moments between `datetime` and `google.protobuf.Timestamp`."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from grpc_common.errors import ValidationError


def to_timestamp(time: datetime) -> Timestamp:
    """Return the message for a time, which must say its zone."""
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def from_timestamp(field: str, timestamp: Timestamp) -> datetime:
    """Return the time in UTC; what is finer than a microsecond is cut off.

    Raises:
        ValidationError: for `field`, when the message is beyond the years 1 to 9999.
    """
    try:
        return timestamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise ValidationError("must be a time of the years 1 to 9999", field=field) from error
