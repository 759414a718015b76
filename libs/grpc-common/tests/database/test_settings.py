"""What a service with a database can be told, and what it refuses to be told."""

import math

import pytest
from pydantic_settings import SettingsConfigDict

from grpc_common.database.engine import Limits
from grpc_common.database.settings import DatabaseSettings
from grpc_common.settings import SettingsError, load_settings


class LampSettings(DatabaseSettings):
    model_config = SettingsConfigDict(env_prefix="LAMPS_")


def test_where_the_data_are_must_be_said_and_nothing_else() -> None:
    with pytest.raises(SettingsError, match=r"^LAMPS_DATABASE_URL is not set: Where the data are kept: .*$"):
        load_settings(LampSettings)


def test_the_limits_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMPS_DATABASE_URL", "sqlite+aiosqlite:///lamps.db")
    monkeypatch.setenv("LAMPS_DATABASE_CONNECTIONS", "3")
    monkeypatch.setenv("LAMPS_DATABASE_POOL_TIMEOUT", "0.25")
    monkeypatch.setenv("LAMPS_DATABASE_CONNECT_TIMEOUT", "0.5")
    monkeypatch.setenv("LAMPS_DATABASE_STATEMENT_TIMEOUT", "0.75")
    monkeypatch.setenv("LAMPS_DATABASE_SLOW_QUERY", "inf")

    assert load_settings(LampSettings).database_limits == Limits(
        connections=3, pool_timeout=0.25, connect_timeout=0.5, statement_timeout=0.75, slow_query=math.inf
    )


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "postgresql://lamps:hunter2@db/lamps",
        "mysql+aiomysql://lamps:hunter2@db/lamps",
        "postgresql+asyncpg://lamps:hunter2@db",
        "sqlite+aiosqlite://",
        "sqlite+aiosqlite:///:memory:",
    ],
)
def test_a_database_that_cannot_be_used_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("LAMPS_DATABASE_URL", url)

    with pytest.raises(SettingsError, match="LAMPS_DATABASE_URL is not valid") as refused:
        load_settings(LampSettings)

    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("variable", ["CONNECTIONS", "POOL_TIMEOUT", "CONNECT_TIMEOUT", "STATEMENT_TIMEOUT"])
@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_a_limit_of_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv("LAMPS_DATABASE_URL", "sqlite+aiosqlite:///lamps.db")
    monkeypatch.setenv(f"LAMPS_DATABASE_{variable}", value)

    with pytest.raises(SettingsError, match=f"LAMPS_DATABASE_{variable} is not valid"):
        load_settings(LampSettings)
