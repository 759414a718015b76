"""What the items service can be told, by environment variables that start with ITEMS_."""

from datetime import timedelta

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from grpc_common.outbox.settings import OutboxSettings
from grpc_common.settings import GRPCServerSettings
from grpc_common.valkey_url import ValkeyURL
from items.cache_store import CacheLimits
from items.service import StreamLimits
from items.upkeep import Kept


class ItemsSettings(OutboxSettings):
    """The service alone: gRPC on 127.0.0.1:50051, items in a SQLite file of the working directory."""

    model_config = SettingsConfigDict(env_prefix="ITEMS_")

    grpc: GRPCServerSettings = Field(
        default=GRPCServerSettings(enabled=True, host="127.0.0.1"),
        description="How the process serves gRPC.",
    )
    database_url: SecretStr = Field(
        default=SecretStr("sqlite+aiosqlite:///items.db"),
        description="Where items are kept: postgresql+asyncpg://… or the file sqlite+aiosqlite:///….",
    )
    batch_items: int = Field(default=4_000, ge=1, le=4_000, description="The most items of one BatchCreateItems.")
    batch_transaction: int = Field(default=500, ge=1, le=1_000, description="How many of them one transaction creates.")
    sync_ahead: int = Field(default=16, ge=1, le=1_000, description="How many actions of one SyncItems are read ahead.")
    watch_heartbeat: float = Field(default=10.0, gt=0, description="Quiet seconds after which a watch has a heartbeat.")
    watch_poll: float = Field(default=0.25, gt=0, description="Seconds a watch is behind other processes, at most.")
    changes_kept: float = Field(default=86_400, gt=0, description="Seconds that a watch can be resumed for.")
    changes_most: int = Field(default=1_000_000, ge=0, description="The most changes that are kept for that.")
    requests_kept: float = Field(default=86_400, gt=0, description="Seconds that a repeated request is known for.")
    upkeep_interval: float = Field(default=60, gt=0, description="Seconds between two clearings of what is not kept.")

    cache_url: ValkeyURL = Field(
        default=SecretStr(""),
        description="The Valkey or Redis that keeps what was read: redis://…, rediss://…, unix://…; unset: none.",
    )
    cache_ttl: float = Field(default=30.0, gt=0, le=3600, description="Seconds the cache keeps an item.")
    cache_timeout: float = Field(default=0.1, gt=0, description="Seconds the cache may take to answer.")
    cache_connections: int = Field(default=20, ge=1, le=1000, description="The most connections to the cache at once.")

    @property
    def cache_limits(self) -> CacheLimits:
        """What the cache may take."""
        return CacheLimits(connections=self.cache_connections, ttl=self.cache_ttl, timeout=self.cache_timeout)

    @property
    def streams(self) -> StreamLimits:
        """What streams may take."""
        return StreamLimits(
            batch_items=self.batch_items,
            transaction_items=self.batch_transaction,
            ahead=self.sync_ahead,
            heartbeat=self.watch_heartbeat,
        )

    @property
    def kept(self) -> Kept:
        """What is kept beside the items."""
        return Kept(
            changes=timedelta(seconds=self.changes_kept),
            changes_most=self.changes_most,
            requests=timedelta(seconds=self.requests_kept),
        )
