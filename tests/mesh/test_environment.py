"""What happens to stand in the environment of who starts a mesh decides nothing in it."""

import json
from pathlib import Path

import psutil
import pytest

from mesh_command import MeshCommand

NOBODY = "http://127.0.0.1:9"
PROXIES = {
    name: NOBODY
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "GRPC_PROXY")
    for name in (upper, upper.lower())
} | {"NO_PROXY": "", "no_proxy": ""}  # fmt: skip
HOSTILE = PROXIES | {
    "PGSSLMODE": "verify-full",
    "PGHOST": "127.0.0.1",
    "PGPORT": "9",
    "PGUSER": "somebody",
    "PGPASSWORD": "something",
    "PGDATABASE": "production",
    "PGTARGETSESSIONATTRS": "standby",
    "OTEL_SDK_DISABLED": "true",
    "OTEL_SERVICE_NAME": "somebody",
    "OTEL_TRACES_SAMPLER": "always_off",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    "OTEL_EXPORTER_OTLP_CERTIFICATE": "/nothing/here",
    "VAULT_ADDR": NOBODY,
    "VAULT_TOKEN": "somebody's",
    "VAULT_CACERT": "/nothing/here",
    "VAULT_NAMESPACE": "elsewhere",
    "BAO_ADDR": NOBODY,
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "/nothing/here",
    "GRPC_SSL_CIPHER_SUITES": "NOTHING",
    "GRPC_VERBOSITY": "debug",
    "SSL_CERT_FILE": "/nothing/here",
    "SSL_CERT_DIR": "/nothing/here",
    "SSLKEYLOGFILE": "/nothing/here/keys",
    "REQUESTS_CA_BUNDLE": "/nothing/here",
    "PYTHONASYNCIODEBUG": "1",
    "PYTHONNODEBUGRANGES": "1",
    "DATABASE_URL": "postgresql://somebody@127.0.0.1:9/production",
    "REDIS_URL": "redis://127.0.0.1:9",
}


@pytest.fixture
def hostile(own_mesh: MeshCommand, tmp_path: Path) -> MeshCommand:
    """And a home with files that libraries look for."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".vault-token").write_text("somebody's")
    (home / ".netrc").write_text("default login somebody password something\n")
    (home / ".netrc").chmod(0o600)
    own_mesh._env = HOSTILE | {"HOME": str(home)}
    return own_mesh


def test_a_mesh_in_a_hostile_environment(hostile):
    hostile.up()
    running = hostile.processes()
    assert len(running) > 5
    for process in running:
        assert not HOSTILE.keys() & process.environ().keys(), process.cmdline()
    new = {"name": "Kettle", "sku": "KIT-1", "quantity": 3, "price": 29.5}
    status, _, err = hostile("call", "items", "CreateItem", json.dumps(new))
    assert (status, err) == (0, "")
    assert hostile("token")[0] == 0
    status, _, err = hostile("restart", "items")
    assert status == 0, err
    spans = {span["service"] for trace in json.loads(hostile("trace", "--json")[1]) for span in trace["spans"]}
    assert {"ingress", "items-sidecar", "items"} <= spans


def test_the_demo_in_a_hostile_environment(hostile, tmp_path):
    """Of which everything is made anew, so that settings of services in it mislead nobody."""
    elsewhere = tmp_path / "elsewhere.db"
    status, out, err = hostile("demo", env={"ITEMS_DATABASE_URL": f"sqlite+aiosqlite:///{elsewhere}"})
    assert status == 0, f"{out}\n{err}"
    assert not elsewhere.exists()


@pytest.mark.parametrize(
    "variable", ["ITEMS_DATABASE_URL", "items_database_url", "AUTH_VAULT_URL", "ITEMS_LOG_LEVEL", "ITEMS_GRPC"]
)
def test_a_setting_of_a_service_is_not_taken_from_the_environment(own_mesh, tmp_path, variable):
    elsewhere = tmp_path / "elsewhere.db"
    status, out, err = own_mesh("up", "--detach", env={variable: f"sqlite+aiosqlite:///{elsewhere}"})
    assert (status, out) == (2, "")
    assert f"{variable} is set" in err
    assert f"--env {variable}" in err
    assert len(err.splitlines()) == 1
    assert not elsewhere.exists()
    assert own_mesh.left() == []


def test_a_setting_is_given_by_name(own_mesh, tmp_path):
    """And the state folder by the variable for it; a temporary folder too deep for sockets does no harm."""
    own_mesh.named_by = ()
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    own_mesh._env = {"MESHWORK_STATE": str(own_mesh.state), "TMPDIR": str(deep)}
    own_mesh._env |= {"AUTH_TOKEN_LIFETIME": "77", "SHADE": "left at home"}
    own_mesh.up("--env", "ITEMS_LOG_LEVEL=debug", "--env", "AUTH_TOKEN_LIFETIME", "--env", "LAMP=lit")
    items, auth = (psutil.Process(own_mesh.service(name)["pid"]).environ() for name in ("items", "auth"))
    assert (items["ITEMS_LOG_LEVEL"], items["LAMP"]) == ("debug", "lit")
    assert (auth["AUTH_TOKEN_LIFETIME"], auth["LAMP"]) == ("77", "lit")
    assert not {"AUTH_TOKEN_LIFETIME", "SHADE"} & items.keys()
    assert not {"ITEMS_LOG_LEVEL", "SHADE"} & auth.keys()
