"""What the service can be told, and what it refuses to be told."""

from pathlib import Path

import pytest

from grpc_common.settings import SettingsError, load_settings
from items.settings import ItemsSettings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_alone_it_serves_on_loopback_and_keeps_items_in_a_file() -> None:
    settings = load_settings(ItemsSettings)

    assert (settings.grpc.enabled, settings.grpc.host, settings.grpc.port) == (True, "127.0.0.1", 50051)
    assert settings.database_url.get_secret_value() == "sqlite+aiosqlite:///items.db"
    assert settings.migrate_on_start


def test_one_nested_setting_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITEMS_GRPC__PORT", "50099")

    settings = load_settings(ItemsSettings)

    assert (settings.grpc.enabled, settings.grpc.host, settings.grpc.port) == (True, "127.0.0.1", 50099)


def test_the_database_url_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "items_database_url").write_text("postgresql+asyncpg://items:hunter2@db/items\n")
    monkeypatch.setenv("ITEMS_SECRETS_DIR", str(tmp_path))

    settings = load_settings(ItemsSettings)

    assert settings.database_url.get_secret_value() == "postgresql+asyncpg://items:hunter2@db/items"
    assert "hunter2" not in repr(settings)


def test_the_limits_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITEMS_DATABASE_CONNECTIONS", "3")
    monkeypatch.setenv("ITEMS_DATABASE_POOL_TIMEOUT", "0.25")
    monkeypatch.setenv("ITEMS_DATABASE_CONNECT_TIMEOUT", "0.5")
    monkeypatch.setenv("ITEMS_DATABASE_STATEMENT_TIMEOUT", "0.75")

    limits = load_settings(ItemsSettings).database_limits

    assert (limits.connections, limits.pool_timeout) == (3, 0.25)
    assert (limits.connect_timeout, limits.statement_timeout) == (0.5, 0.75)


@pytest.mark.parametrize("url", ["hunter2", "http://:hunter2@cache", "memcached://:hunter2@cache"])
def test_a_cache_that_cannot_be_used_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("ITEMS_CACHE_URL", url)

    with pytest.raises(SettingsError, match="ITEMS_CACHE_URL") as refused:
        load_settings(ItemsSettings)

    assert "hunter2" not in str(refused.value)
