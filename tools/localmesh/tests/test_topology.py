"""The topology file: what is right is read, what is wrong is named."""

from pathlib import Path

import pytest

from localmesh import topology
from localmesh.failure import UsageError

GOOD = """
trust_domain = "shop.test"
namespace = "default"
observers = ["ingress"]
[ingress]
account = "ingress"
port = 8443
[tokens]
issuer = "https://issuer.test"
audience = "shop"
service = "auth"
[services.items]
module = "items.main"
env_prefix = "ITEMS_"
grpc = ["meshwork.items.v1.ItemService"]
account = "stock"
[services.auth]
module = "auth.main"
env_prefix = "AUTH_"
grpc = ["meshwork.auth.v1.AuthService"]
account = "auth"
database = true
secrets = ["BOOTSTRAP_SECRET"]
http = { "/.well-known/" = ["*"] }
"""


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "topology.toml"
        path.write_text(text)
        return path

    return write


def test_a_spiffe_id_is_made_of_the_account(written):
    read = topology.read(written(GOOD))
    assert read.spiffe_id(read.services["items"].account) == "spiffe://shop.test/ns/default/sa/stock"
    assert read.accounts == ("ingress", "stock", "auth")


def test_the_topology_of_the_tree_is_good():
    assert "items" in topology.read(topology.IN_THE_TREE).services


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("env_prefix", "env_prefx", "services.items.env_prefx is no setting; did you mean env_prefix?"),
        ('module = "items.main"', "", "services.items.module is missing"),
        ("port = 8443", "port = 0", "ingress.port: Input should be greater than or equal to 1"),
        ('"ITEMS_"', '"items"', "services.items.env_prefix: 'items' is no prefix: capital letters that end in _"),
        ('observers = ["ingress"]', 'observers = ["ingres"]', "'ingres', which is no account; did you mean ingress?"),
        ("[services.items]", "[services.Items]", "'Items' is no name"),
        ('account = "stock"', 'account = "stock"\nmigrate = "items.migrate"', "has a migrate module and no database"),
        ("trust_domain =", "trust_domain", "is not TOML"),
        ('service = "auth"', 'service = "auht"', "'auht', which is no service; did you mean auth?"),
        ('service = "auth"', 'service = "items"', "items.http must open /.well-known/jwks.json to"),
        ('secrets = ["BOOTSTRAP_SECRET"]', "", "auth.secrets must have BOOTSTRAP_SECRET: it issues the tokens"),
        ('account = "stock"', 'account = "stock"\nhttp = {"v1" = ["*"]}', "'v1' is no prefix of a path"),
        ('account = "stock"', 'account = "stock"\nhttp = {"/" = ["*"]}', "'/' is no prefix of a path"),
        ('account = "stock"', 'account = "stock"\nhttp = {"/a/" = ["stok"]}', "no account; did you mean stock?"),
        ('account = "stock"', 'account = "stock"\nsecrets = ["KEY"]', "has secrets, kept as long as its database, and"),
    ],
)
def test_a_fault_is_named(written, old, new, sentence):
    path = written(GOOD.replace(old, new))
    with pytest.raises(UsageError) as raised:
        topology.read(path)
    assert sentence in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read the topology .*nothing.toml"):
        topology.read(tmp_path / "nothing.toml")


def test_two_services_cannot_serve_the_same(written):
    second = GOOD[GOOD.index("[services.items]") : GOOD.index("[services.auth]")]
    second = second.replace("services.items", "services.more")
    with pytest.raises(UsageError, match=r"both items and more say that they serve meshwork\.items\.v1\.ItemService"):
        topology.read(written(GOOD + second))
