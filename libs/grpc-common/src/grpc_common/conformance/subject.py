"""What is put to the test."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import grpc
from grpc import StatusCode

from grpc_common.conformance.servicer import SERVICE


class Record(NamedTuple):
    """What an observer has written down about one call."""

    path: str
    """Of the method: "/package.Service/Name"; whatever the observer calls a method that does not exist."""
    status: str
    """A status code's name, such as NOT_FOUND; "" where the observer does not tell."""


@dataclass(frozen=True, slots=True)
class Observer:
    """Tells what has been recorded since it began: one record per call, no matter how that ended."""

    records: Callable[[], Iterable[Record]]
    only: frozenset[StatusCode] | None = None
    """The statuses it records calls of; None means all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Interceptors, outermost first, and what they claim."""

    interceptors: Sequence[grpc.aio.ServerInterceptor]
    maps_errors: bool = False
    """Every exception becomes a status (`grpc_common.errors.ERROR_STATUS_MAP`) and no text of it reaches the caller.
    Without this claim a call must end as it would without interceptors."""
    closes_handlers: bool = False
    """The handler's clean-up runs in the call's own task, and not whenever an abandoned generator is collected."""
    observers: Mapping[str, Observer] = field(default_factory=dict)
    gauges: Mapping[str, Callable[[], float]] = field(default_factory=dict)
    """Each must be 0 whenever no call runs."""
    statuses: Mapping[str, StatusCode] = field(default_factory=dict)
    """By the ending's name: the status it is to have, where that differs from `Ending.status`."""
    out_of_reach: frozenset[str] = frozenset()
    """The names of endings that nothing can be recorded of: of single requests those of which core keeps all to itself,
    for interceptors that do not stand inside of a Chain."""
    metadata: tuple[tuple[str, str], ...] = ()
    """Sent along with every call: a token, for instance."""
    service: str = SERVICE
    """The name under which the handlers are served, for those who give it policies and constraints."""
