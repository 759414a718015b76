"""The certificate authorities in OpenBao: a root, an intermediate, and who gets which certificate."""

from collections.abc import Sequence

import hvac

from localmesh.certificates import Identity
from localmesh.topology import Topology

ROOT, INTERMEDIATE = "pki_root", "pki_mesh"
WORKLOAD, SERVER = "workload", "ingress-server"
ROOT_TTL, INTERMEDIATE_TTL = "87600h", "8760h"
LEAF_SECONDS = 3600
P256 = {"key_type": "ec", "key_bits": 256}


class Authority:
    """Issues certificates of P-256 keys that live for an hour; all its calls block."""

    def __init__(self, client: hvac.Client, topology: Topology) -> None:
        self._client = client
        self._pki = client.secrets.pki
        self._topology = topology
        self._set_up()
        self.root_certificate: str = self._pki.read_ca_certificate(mount_point=ROOT).strip() + "\n"

    def issue_workload(self, identity: Identity, account: str) -> None:
        """Gives an identity the SPIFFE id of an account."""
        self._issue(identity, WORKLOAD, "", {"uri_sans": self._topology.spiffe_id(account)})

    def issue_server(self, identity: Identity, names: Sequence[str], addresses: Sequence[str]) -> None:
        """Gives an identity host names and IP addresses."""
        self._issue(identity, SERVER, names[0], {"alt_names": ",".join(names), "ip_sans": ",".join(addresses)})

    def _issue(self, identity: Identity, role: str, common_name: str, names: dict[str, str]) -> None:
        issued = self._pki.generate_certificate(role, common_name, extra_params=names, mount_point=INTERMEDIATE)["data"]
        chain = [
            issued["certificate"],
            *(ca for ca in issued["ca_chain"] if ca.strip() != self.root_certificate.strip()),
        ]
        identity.install(
            certificate="\n".join(chain) + "\n", key=issued["private_key"] + "\n", ca=self.root_certificate
        )

    def _set_up(self) -> None:
        if not self._is_complete():
            self._client.sys.disable_secrets_engine(ROOT)
            self._client.sys.disable_secrets_engine(INTERMEDIATE)
            self._make_authorities()
        self._write_roles()

    def _is_complete(self) -> bool:
        """The roles are what is written last."""
        try:
            roles = self._pki.list_roles(mount_point=INTERMEDIATE)["data"]["keys"]
        except hvac.exceptions.InvalidPath:
            return False
        return {WORKLOAD, SERVER} <= set(roles)

    def _make_authorities(self) -> None:
        for mount, ttl in ((ROOT, ROOT_TTL), (INTERMEDIATE, INTERMEDIATE_TTL)):
            self._client.sys.enable_secrets_engine("pki", path=mount)
            self._client.sys.tune_mount_configuration(mount, max_lease_ttl=ttl)
        name = self._topology.trust_domain
        self._pki.generate_root("internal", f"{name} root", P256 | {"ttl": ROOT_TTL}, mount_point=ROOT)
        request = self._pki.generate_intermediate("internal", f"{name} mesh", P256, mount_point=INTERMEDIATE)
        signed = self._pki.sign_intermediate(
            request["data"]["csr"],
            f"{name} mesh",
            {"ttl": INTERMEDIATE_TTL, "format": "pem_bundle", "use_csr_values": True},
            mount_point=ROOT,
        )
        self._pki.set_signed_intermediate(signed["data"]["certificate"], mount_point=INTERMEDIATE)

    def _write_roles(self) -> None:
        common = P256 | {"ttl": LEAF_SECONDS, "max_ttl": LEAF_SECONDS, "no_store": True, "server_flag": True}
        workload = {
            "allowed_uri_sans": f"{self._topology.spiffe_prefix}ns/{self._topology.namespace}/sa/*",
            "require_cn": False,
            "cn_validations": ["disabled"],
            "client_flag": True,
        }
        server = {
            "allowed_domains": ["localhost"],
            "allow_bare_domains": True,
            "allow_subdomains": True,
            "allow_ip_sans": True,
            "client_flag": False,
        }
        for role, rules in ((WORKLOAD, workload), (SERVER, server)):
            self._pki.create_or_update_role(role, common | rules, mount_point=INTERMEDIATE)
