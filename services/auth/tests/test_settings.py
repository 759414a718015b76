"""What the service can be told, and what it refuses to be told."""

from pathlib import Path

import pytest

from auth.settings import AuthServiceSettings
from grpc_common.settings import SettingsError, load_settings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("variable", ["AUTH_CACHE_URL", "AUTH_REVOCATIONS_URL"])
@pytest.mark.parametrize("url", ["hunter2", "http://:hunter2@cache", "memcached://:hunter2@cache"])
def test_a_valkey_that_is_none_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str
) -> None:
    monkeypatch.setenv(variable, url)

    with pytest.raises(SettingsError, match=variable) as refused:
        load_settings(AuthServiceSettings)

    assert "hunter2" not in str(refused.value)


def test_a_revocation_that_could_not_be_published_is_tried_again_within_seconds() -> None:
    assert load_settings(AuthServiceSettings).relay_limits.pause <= 2
