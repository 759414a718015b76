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


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("AUTH_REFRESH_IDLE", "99999999", "REFRESH_GRACE, REFRESH_IDLE and REFRESH_ABSOLUTE do not go together: the "),
        ("AUTH_REFRESH_GRACE", "700000", "REFRESH_GRACE, REFRESH_IDLE and REFRESH_ABSOLUTE do not go together: the "),
        ("AUTH_REFRESH_ABSOLUTE", "inf", "AUTH_REFRESH_ABSOLUTE is not valid: input should be a finite number"),
        ("AUTH_GUARD_PAUSE", "901", "GUARD_PAUSE and GUARD_LONGEST_PAUSE do not go together: a pause must be "),
        ("AUTH_GUARD_LONGEST_PAUSE", "14400", "until all is forgotten (14400 s)"),
        ("AUTH_KEY_PERIOD", "600", "KEY_AHEAD and KEY_PERIOD do not go together: a key must be made less often "),
        ("AUTH_KEY_AHEAD", "60", "KEY_AHEAD must be longer than KEY_READ: all replicas must have read a new key "),
        ("AUTH_KEY_READ", "600", "KEY_AHEAD must be longer than KEY_READ: all replicas must have read a new key "),
        ("AUTH_USER_SCOPES", '["items:read", "a b"]', "AUTH_USER_SCOPES is not valid: 'a b' is no scope"),
        ("AUTH_USER_SCOPES", '[""]', "AUTH_USER_SCOPES is not valid: '' is no scope"),
        ("AUTH_USER_SCOPES", '["a\\n"]', "AUTH_USER_SCOPES is not valid: 'a\\n' is no scope"),
        ("AUTH_AUTH__ALGORITHMS", '["ES256"]', "leave jwks, jwks_socket and algorithms unset"),
        ("AUTH_AUTH__JWKS_SOCKET", "/run/jwks.sock", "leave jwks, jwks_socket and algorithms unset"),
        ("AUTH_HTTP__PORT", "0", "AUTH__ISSUER must be set, to the URL by which clients reach the service"),
        ("AUTH_HTTP__UNIX_SOCKET", "/run/auth.sock", "AUTH__ISSUER must be set, to the URL by which clients reach the"),
        ("AUTH_BOOTSTRAP_SECRET", "x" * 31, "BOOTSTRAP_SECRET must have 32 to 256 characters"),
        ("AUTH_BOOTSTRAP_SECRET", "x" * 257, "BOOTSTRAP_SECRET must have 32 to 256 characters"),
    ],
)
def test_what_could_not_work_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError) as refused:
        load_settings(AuthServiceSettings)

    (sentence,) = refused.value.problems
    assert said in sentence


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AUTH_KEY_AHEAD", "60.5"),
        ("AUTH_USER_SCOPES", '["items:read", "~"]'),
        ("AUTH_AUTH__AUDIENCE", "elsewhere"),
        ("AUTH_AUTH__ISSUER", "https://auth.example"),
        ("AUTH_BOOTSTRAP_SECRET", "x" * 32),
        ("AUTH_BOOTSTRAP_SECRET", "x" * 256),
        ("AUTH_BOOTSTRAP_SECRET", ""),
    ],
)
def test_what_just_works_is_taken(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)

    assert load_settings(AuthServiceSettings)


@pytest.mark.parametrize("part", ["GRPC", "HTTP"])
def test_behind_a_mesh_the_issuer_must_be_told(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    monkeypatch.setenv(f"AUTH_{part}__HOST", "0.0.0.0")  # noqa: S104
    monkeypatch.setenv(f"AUTH_{part}__PLAINTEXT", "behind-mesh")

    with pytest.raises(SettingsError, match="AUTH__ISSUER must be set, to the URL by which clients reach the service"):
        load_settings(AuthServiceSettings)
    monkeypatch.setenv("AUTH_AUTH__ISSUER", "https://auth.example")
    assert load_settings(AuthServiceSettings).issuer == "https://auth.example"


@pytest.mark.parametrize(
    ("set_", "issuer"),
    [
        ({}, "http://127.0.0.1:8081"),
        ({"AUTH_HTTP__PORT": "9000"}, "http://127.0.0.1:9000"),
        ({"AUTH_HTTP__HOST": "::1"}, "http://[::1]:8081"),
        ({"AUTH_HTTP__HOST": "localhost", "AUTH_AUTH__AUDIENCE": "x"}, "http://localhost:8081"),
        ({"AUTH_HTTP__PORT": "9000", "AUTH_AUTH__ISSUER": "https://auth.example"}, "https://auth.example"),
        ({"AUTH_HTTP__UNIX_SOCKET": "/run/s", "AUTH_AUTH__ISSUER": "https://auth.example"}, "https://auth.example"),
    ],
)
def test_unless_told_otherwise_the_issuer_is_where_it_is_served(
    monkeypatch: pytest.MonkeyPatch, set_: dict[str, str], issuer: str
) -> None:
    for name, value in set_.items():
        monkeypatch.setenv(name, value)

    assert load_settings(AuthServiceSettings).issuer == issuer
