"""What a service has: its settings and tables, and the imports that are not worth their lines."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, Self

import grpc
from google.protobuf.message import Message
from grpc import StatusCode
from sqlalchemy import MetaData, Table, insert, update

from grpc_common.application import Application
from grpc_common.asgi import ASGIApp
from grpc_common.call import Call, Method, Run
from grpc_common.chain import Interceptor
from grpc_common.database.driver_errors import translated_errors
from grpc_common.database.engine import Limits, open_engine
from grpc_common.database.migrations import Migrations
from grpc_common.fault import Fault, FaultInterceptor
from grpc_common.fixed_clock import FixedClock
from grpc_common.health.check import DependencyCheck
from grpc_common.interceptors.validation import ValidationInterceptor
from grpc_common.new_id import new_id
from grpc_common.outbox.event import Event, EventPublisher
from grpc_common.outbox.outbox import enqueue
from grpc_common.outbox.table import outbox_table
from grpc_common.outbox.telling import telling
from grpc_common.revocation_stream import RevocationStream
from grpc_common.run import run
from grpc_common.testing import bearer, in_process
from grpc_common.token_maker import TokenMaker
from items.settings import ItemsSettings
from items.table import ITEMS
from meshwork.items.v1.items_service_pb2 import GetItemRequest
from meshwork.items.v1.items_service_pb2_grpc import (
    ItemServiceServicer,
    ItemServiceStub,
    add_ItemServiceServicer_to_server,
)

url: str
settings: ItemsSettings
limits: Limits
publisher: EventPublisher
clock: Callable[[], datetime]
now: datetime
row: dict[str, Any]
ORDERS: Table
METADATA: MetaData
order_id: str
paid: Message
session_id: str
expires_at: float
database: DependencyCheck
app: ASGIApp
request: GetItemRequest


def register(server: grpc.aio.Server) -> None:
    """Add the servicers."""


class Postgres(DependencyCheck):
    """The service's database."""

    def __init__(self, url: object) -> None:
        """Connect to `url`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None: ...


ItemService: Callable[[Postgres], ItemServiceServicer]
