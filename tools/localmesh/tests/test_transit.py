"""The way of a service to its signing key, on a real OpenBao."""

import asyncio
import stat

import hvac
import pytest
import pytest_asyncio
from hvac.exceptions import Forbidden, InvalidRequest

from localmesh.parts.openbao import OpenBao
from localmesh.transit import SigningRole


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("openbao")
    async with OpenBao(folder / "data", folder / "openbao.log") as server:
        yield await asyncio.to_thread(server.client)


@pytest.fixture
def role(root):
    role = SigningRole(root, "auth", "access")
    role.set_up()
    return role


@pytest.fixture
def client(root, role):
    """A client that has logged in as the service does."""
    return _log_in(root, role, role.wrapped_secret_id())


def _log_in(root, role, wrapped):
    client = hvac.Client(url=root.url, token="")
    secret_id = hvac.Client(url=root.url, token=wrapped).sys.unwrap()["data"]["secret_id"]
    client.auth.approle.login(role.role_id(), secret_id)
    return client


def test_the_role_may_use_its_key_in_every_way_it_needs(client):
    transit = client.secrets.transit
    client.write_data("transit/keys/access", data={"type": "ecdsa-p256", "exportable": False})
    transit.rotate_key("access")
    assert sorted(transit.read_key("access")["data"]["keys"]) == ["1", "2"]
    assert transit.sign_data("access", "ZGF0YQ==")["data"]["signature"].startswith("vault:v2:")
    # hvac refuses two numbers that are the same, and OpenBao does not.
    limits = {"min_decryption_version": 2, "min_encryption_version": 2}
    client.write_data("transit/keys/access/config", data=limits)
    transit.trim_key("access", 2)
    assert client.auth.token.renew_self()["auth"]["lease_duration"] == 3600


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda client: client.secrets.transit.create_key("other"),
        lambda client: client.secrets.transit.list_keys(),
        lambda client: client.write_data("transit/keys/access", data={"type": "ecdsa-p256", "exportable": True}),
        lambda client: client.secrets.transit.update_key_configuration("access", exportable=True),
        lambda client: client.secrets.transit.update_key_configuration("access", allow_plaintext_backup=True),
        lambda client: client.secrets.transit.update_key_configuration("access", deletion_allowed=True),
        lambda client: client.secrets.transit.delete_key("access"),
        lambda client: client.secrets.transit.export_key("access", "signing-key"),
        lambda client: client.secrets.transit.backup_key("access"),
        lambda client: client.secrets.transit.verify_signed_data("access", "ZGF0YQ==", signature="vault:v1:x"),
        lambda client: client.auth.approle.generate_secret_id("auth"),
        lambda client: client.auth.token.create(),
        lambda client: client.auth.token.lookup_self(),
        lambda client: client.sys.list_mounted_secrets_engines(),
    ],
)
def test_the_role_may_do_nothing_else(client, forbidden):
    client.write_data("transit/keys/access", data={"type": "ecdsa-p256", "exportable": False})
    with pytest.raises(Forbidden):
        forbidden(client)


def test_two_services_have_two_keys(root, client):
    other = SigningRole(root, "other", "theirs")
    other.set_up()
    theirs = _log_in(root, other, other.wrapped_secret_id())
    theirs.write_data("transit/keys/theirs", data={"type": "ecdsa-p256", "exportable": False})
    theirs.secrets.transit.sign_data("theirs", "ZGF0YQ==")

    for stranger, key in ((theirs, "access"), (client, "theirs")):
        with pytest.raises(Forbidden):
            stranger.secrets.transit.sign_data(key, "ZGF0YQ==")


def test_a_secret_id_is_unwrapped_once_and_used_once(root, role):
    wrapped = role.wrapped_secret_id()
    secret_id = hvac.Client(url=root.url, token=wrapped).sys.unwrap()["data"]["secret_id"]
    with pytest.raises((Forbidden, InvalidRequest)):
        hvac.Client(url=root.url, token=wrapped).sys.unwrap()

    hvac.Client(url=root.url, token="").auth.approle.login(role.role_id(), secret_id)
    with pytest.raises(InvalidRequest):
        hvac.Client(url=root.url, token="").auth.approle.login(role.role_id(), secret_id)


def test_what_is_handed_over_is_for_its_owner_and_not_the_secret_id_itself(root, role, tmp_path):
    role.hand_over(tmp_path / "wrapped")

    assert stat.S_IMODE((tmp_path / "wrapped").stat().st_mode) == 0o600
    assert hvac.Client(url=root.url, token=(tmp_path / "wrapped").read_text()).sys.unwrap()["data"]["secret_id"]


def test_setting_up_again_changes_nothing(root, role, client):
    before = role.role_id()
    role.set_up()

    assert role.role_id() == before
    client.auth.token.renew_self()
