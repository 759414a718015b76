"""What every service with a database can be told."""

from pydantic import Field, SecretStr, field_validator
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from grpc_common.database.engine import Limits
from grpc_common.settings import ServiceSettings


class DatabaseSettings(ServiceSettings):
    """Where the service keeps its data; a service gives `database_url` a default, if one is right everywhere."""

    database_url: SecretStr = Field(
        description="Where the data are kept: postgresql+asyncpg://… or the file sqlite+aiosqlite:///….",
    )
    migrate_on_start: bool = Field(default=True, description="Whether the process brings the schema up to date first.")
    database_connections: int = Field(default=10, ge=1, le=1000, description="The most database connections at once.")
    database_pool_timeout: float = Field(default=0.5, gt=0, description="Seconds a call waits for a free connection.")
    database_connect_timeout: float = Field(default=1.0, gt=0, description="Seconds a new connection may take.")
    database_statement_timeout: float = Field(default=4.0, gt=0, description="Seconds a statement may take.")
    database_slow_query: float = Field(default=0.5, gt=0, description="Seconds that make a statement a slow one.")

    @field_validator("database_url")
    @classmethod
    def _is_supported(cls, value: SecretStr) -> SecretStr:
        try:
            url = make_url(value.get_secret_value())
        except ArgumentError:
            raise ValueError("it is not a database url") from None
        if url.drivername not in {"postgresql+asyncpg", "sqlite+aiosqlite"}:
            raise ValueError("it must start with postgresql+asyncpg:// or sqlite+aiosqlite:///")
        if url.database in {None, "", ":memory:"}:
            raise ValueError("it must name a database, which for SQLite is a file")
        return value

    @property
    def database_limits(self) -> Limits:
        """What the database connections may take."""
        return Limits(
            connections=self.database_connections,
            pool_timeout=self.database_pool_timeout,
            connect_timeout=self.database_connect_timeout,
            statement_timeout=self.database_statement_timeout,
            slow_query=self.database_slow_query,
        )
