"""Settings: what is misspelt, missing or bad is named in a sentence, and no secret is ever shown."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from grpc_common.settings import (
    GRPCClientSettings,
    GRPCServerSettings,
    GRPCSettings,
    ServiceSettings,
    SettingsError,
    load_settings,
    variables,
)

SECRET = "postgresql://shop:hunter2@db/shop"


class ShopSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_")

    grpc: GRPCServerSettings = GRPCServerSettings(enabled=True, host="127.0.0.1")
    database_url: SecretStr
    size: int = 3

    @field_validator("database_url")
    @classmethod
    def _is_a_url(cls, value):
        if "://" not in value.get_secret_value():
            raise ValueError(f"{value.get_secret_value()} is not a URL")
        return value


@pytest.fixture
def load(monkeypatch):
    def load(**variables):
        for name, value in {"SHOP_DATABASE_URL": SECRET, **variables}.items():
            if value is not None:
                monkeypatch.setenv(name, value)
        return load_settings(ShopSettings)

    return load


@pytest.fixture
def refused(load):
    def refused(**variables):
        with pytest.raises(SettingsError) as caught:
            load(**variables)
        assert "hunter2" not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__!r}"
        return list(caught.value.problems)

    return refused


def test_the_defaults_are_the_specification():
    server, client = GRPCSettings().server, GRPCSettings().client
    assert (server.enabled, server.host, server.port) == (False, "0.0.0.0", 50051)  # noqa: S104
    assert (server.max_workers, server.max_concurrent_rpcs) == (10, 100)
    assert server.reflection_enabled
    assert server.health_check_enabled
    assert client == GRPCClientSettings(
        default_timeout=30.0,
        max_retries=3,
        retry_backoff_base=1.0,
        circuit_breaker_threshold=5,
        circuit_breaker_timeout=30.0,
    )


def test_a_nested_setting_leaves_the_others_alone(load):
    settings = load(SHOP_GRPC__PORT="7000")
    assert (settings.grpc.port, settings.grpc.host, settings.grpc.enabled) == (7000, "127.0.0.1", True)


def test_a_secret_comes_from_a_file(load, tmp_path):
    (tmp_path / "shop_database_url").write_text("sqlite:///file")
    (tmp_path / "..data").mkdir()
    settings = load(SHOP_DATABASE_URL=None, SHOP_SECRETS_DIR=str(tmp_path))
    assert settings.database_url.get_secret_value() == "sqlite:///file"
    assert "file" not in repr(settings)


def test_settings_do_not_change(load):
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.size = 4


def test_a_misspelt_variable(refused):
    assert refused(SHOP_SIZZE="4") == ["SHOP_SIZZE is not a setting of this service; did you mean SHOP_SIZE?"]


def test_a_misspelt_nested_variable(refused):
    assert refused(SHOP_GRPC__PROT="4") == [
        "SHOP_GRPC__PROT is not a setting of this service; did you mean SHOP_GRPC__PORT?"
    ]


def test_a_misspelt_secret_file(refused, tmp_path):
    (tmp_path / "shop_database_ulr").write_text(SECRET)
    (problem,) = refused(SHOP_SECRETS_DIR=str(tmp_path))
    assert problem.endswith("did you mean shop_database_url?")


def test_a_secrets_folder_that_is_not_there(refused, tmp_path):
    assert refused(SHOP_SECRETS_DIR=f"{tmp_path}/no") == [
        f"SHOP_SECRETS_DIR names {tmp_path}/no, which is not a folder."
    ]


def test_a_missing_variable(refused):
    assert refused(SHOP_DATABASE_URL=None) == ["SHOP_DATABASE_URL is not set."]


def test_every_problem_is_told(refused):
    problems = refused(SHOP_SIZE="four", SHOP_GRPC__PORT="99999", SHOP_LOG_LEVEL="loud", SHOP_X="1")
    assert [problem.split()[0] for problem in problems] == [
        "SHOP_X",
        "SHOP_GRPC__PORT",
        "SHOP_LOG_LEVEL",
        "SHOP_SIZE",
    ]


@pytest.mark.parametrize("url", ["", "redis://:hunter2@cache", "rediss://:hunter2@cache/1", "unix:///run/valkey.sock"])
def test_revocations_may_come_from_a_valkey(load, url):
    settings = load(SHOP_REVOCATIONS_URL=url)
    assert settings.revocations_url.get_secret_value() == url
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize("url", ["hunter2", "http://:hunter2@cache", " redis://:hunter2@cache"])
def test_revocations_from_anywhere_else_are_refused(refused, url):
    (problem,) = refused(SHOP_REVOCATIONS_URL=url)
    assert problem == "SHOP_REVOCATIONS_URL is not valid; its value is secret and not shown."


def test_a_bad_secret_is_not_shown(refused):
    assert refused(SHOP_DATABASE_URL="hunter2") == [
        "SHOP_DATABASE_URL is not valid; its value is secret and not shown."
    ]


@pytest.mark.parametrize("nested", ["GRPC", "HTTP", "AUTH"])
def test_a_misspelt_key_of_json(refused, nested):
    (problem,) = refused(**{f"SHOP_{nested}": '{"hots": "x"}'})
    assert problem.startswith(f"SHOP_{nested}__HOTS is not a setting of this service")


class Loose(BaseModel):
    size: int = 3


class Thawed(BaseModel):
    model_config = ConfigDict(extra="forbid")


type Named[T] = dict[str, T]


@pytest.mark.parametrize("loose", [Loose, Thawed])
@pytest.mark.parametrize("held", [lambda m: m, lambda m: m | None, lambda m: tuple[m, ...], lambda m: Named[m]])
def test_settings_that_take_what_is_misspelt_cannot_be_defined(loose, held):
    class Middle(BaseModel):
        model_config = ConfigDict(frozen=True, extra="forbid")
        inner: held(loose)

    with pytest.raises(TypeError, match=rf"{loose.__name__} holds settings: give it .*frozen=True"):

        class Shop(ServiceSettings):
            middle: Middle


def test_settings_that_are_loosened_cannot_be_defined():
    with pytest.raises(TypeError, match="Shop holds settings"):

        class Shop(ServiceSettings):
            model_config = SettingsConfigDict(extra="ignore")


def test_a_nested_setting_that_is_no_json(refused):
    (problem,) = refused(SHOP_GRPC="{")
    assert problem.startswith("SHOP_GRPC cannot be read")


def test_listening_in_the_open_must_be_meant(refused, load):
    (problem,) = refused(SHOP_GRPC__HOST="0.0.0.0")  # noqa: S104
    assert "behind-mesh" in problem
    exposed = {"SHOP_GRPC__HOST": "0.0.0.0", "SHOP_GRPC__PLAINTEXT": "behind-mesh"}  # noqa: S104
    (problem,) = refused(**exposed)
    assert "anybody could call: set AUTH__JWKS" in problem
    issuer = {"SHOP_AUTH__JWKS": "jwks.json", "SHOP_AUTH__ISSUER": "https://issuer.test"}
    (problem,) = refused(**exposed, **issuer)
    assert "set together" in problem
    assert load(**exposed, **issuer, SHOP_AUTH__AUDIENCE="shop").grpc.host == "0.0.0.0"  # noqa: S104


def test_a_socket_leads_to_a_url(refused, load):
    issuer = {"SHOP_AUTH__ISSUER": "https://issuer.test", "SHOP_AUTH__AUDIENCE": "shop", "SHOP_AUTH__JWKS_SOCKET": "s"}
    (problem,) = refused(**issuer, SHOP_AUTH__JWKS="jwks.json")
    assert "jwks_socket is a way to a URL" in problem
    assert load(**issuer, SHOP_AUTH__JWKS="http://auth/jwks.json").auth.jwks_socket == Path("s")


def test_what_kubernetes_says_of_a_service_is_no_setting(load):
    load(
        SHOP_SERVICE_HOST="10.0.0.1",
        SHOP_SERVICE_PORT_GRPC="50051",
        SHOP_PORT="tcp://10.0.0.1:50051",
        SHOP_PORT_50051_TCP_ADDR="10.0.0.1",
    )


def test_every_field_says_what_it_is():
    named = dict(variables(ServiceSettings, "SHOP_"))
    assert "SHOP_GRPC__UNIX_SOCKET" in named
    assert all(field.description for field in named.values())
    assert all(field.description for _, field in variables(GRPCSettings))
