"""The certificate authorities in OpenBao: a root, an intermediate, and who gets which certificate."""

from collections.abc import Sequence

import hvac
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from localmesh.certificates import Identity
from localmesh.topology import Topology

ROOT, INTERMEDIATE = "pki_root", "pki_mesh"
WORKLOAD, SERVER = "workload", "ingress-server"
ROOT_TTL, INTERMEDIATE_TTL = "87600h", "8760h"
P256 = {"key_type": "ec", "key_bits": 256}


class Authority:
    """Issues short-lived certificates of P-256 keys; all its calls block.

    A new authority comes in two steps, so that at no time anybody shows a certificate somebody else does not trust yet:
    `announce`, then, when all have heard of it, `take_over`. Either may be cut short at any point: what it issues with
    is then the old or the new, and the roots of both are kept until an `announce` after a whole `take_over`.
    """

    def __init__(self, client: hvac.Client, topology: Topology) -> None:
        self._client = client
        self._pki = client.secrets.pki
        self._topology = topology
        self._set_up()
        self._announced: str | None = None
        self.bundle: str = self._bundle()
        """All roots to trust (PEM), the newest first."""

    def issue_workload(self, identity: Identity, account: str) -> None:
        """Gives an identity the SPIFFE id of an account."""
        self._issue(identity, WORKLOAD, "", {"uri_sans": self._topology.spiffe_id(account)})

    def issue_server(self, identity: Identity, names: Sequence[str], addresses: Sequence[str]) -> None:
        """Gives an identity host names and IP addresses."""
        self._issue(identity, SERVER, names[0], {"alt_names": ",".join(names), "ip_sans": ",".join(addresses)})

    def announce(self) -> None:
        """Makes a new root and puts it into the bundle; those before the present one leave it.

        Nobody may hold a certificate of an earlier root any more.
        """
        kept = self._in_use()
        for issuer in self._issuers(ROOT):
            if issuer not in kept:
                self._client.delete(f"{ROOT}/issuer/{issuer}")
        self._announced = self._make_root()
        self.bundle = self._bundle()

    def take_over(self) -> None:
        """Issues with the announced root from now on."""
        if self._announced is None:
            raise RuntimeError("no root was announced")
        self._make_intermediate(self._announced)
        self._make_default(ROOT, self._announced)
        self._announced = None
        self.bundle = self._bundle()

    def _issue(self, identity: Identity, role: str, common_name: str, names: dict[str, str]) -> None:
        issued = self._pki.generate_certificate(role, common_name, extra_params=names, mount_point=INTERMEDIATE)["data"]
        chain = [issued["certificate"], *(ca for ca in issued["ca_chain"] if ca.strip() not in self.bundle)]
        identity.install(certificate="\n".join(chain) + "\n", key=issued["private_key"] + "\n", ca=self.bundle)

    def _bundle(self) -> str:
        present = self._default(ROOT)
        roots = {issuer: self._read(ROOT, issuer) for issuer in self._issuers(ROOT)}
        newest = self._announced or present
        ordered = [newest, *(issuer for issuer in roots if issuer != newest)]
        return "".join(f"{roots[issuer].strip()}\n" for issuer in ordered)

    def _in_use(self) -> set[str]:
        """The default root and the one of the intermediate: two after a `take_over` that was cut short."""
        issuing = self._read(INTERMEDIATE, self._default(INTERMEDIATE))
        signers = (issuer for issuer in self._issuers(ROOT) if _is_signed_by(issuing, self._read(ROOT, issuer)))
        return {self._default(ROOT), *signers}

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
        self._make_intermediate(self._make_root())

    def _make_root(self) -> str:
        fields = P256 | {"ttl": ROOT_TTL}
        name = f"{self._topology.trust_domain} root"
        made = self._pki.generate_root("internal", name, fields, mount_point=ROOT)
        return str(made["data"]["issuer_id"])

    def _make_intermediate(self, root: str) -> None:
        """An intermediate authority of that root, which issues from now on; older ones go."""
        name = f"{self._topology.trust_domain} mesh"
        request = self._pki.generate_intermediate("internal", name, P256, mount_point=INTERMEDIATE)
        wanted = {"csr": request["data"]["csr"], "common_name": name, "use_csr_values": True}
        wanted |= {"ttl": INTERMEDIATE_TTL, "format": "pem_bundle"}
        signed = self._client.write_data(f"{ROOT}/issuer/{root}/sign-intermediate", data=wanted)
        older = set(self._issuers(INTERMEDIATE))
        stored = self._pki.set_signed_intermediate(signed["data"]["certificate"], mount_point=INTERMEDIATE)
        imported = stored["data"]["imported_issuers"] or []
        mapped = stored["data"]["mapping"]
        present = next(issuer for issuer in imported if mapped.get(issuer))  # the one with a key; roots have none here
        self._make_default(INTERMEDIATE, present)
        for issuer in older - {present}:
            self._client.delete(f"{INTERMEDIATE}/issuer/{issuer}")

    def _issuers(self, mount: str) -> list[str]:
        found = self._client.list(f"{mount}/issuers")
        return [] if found is None else list(found["data"]["keys"])

    def _default(self, mount: str) -> str:
        return str(self._client.read(f"{mount}/config/issuers")["data"]["default"])

    def _make_default(self, mount: str, issuer: str) -> None:
        self._client.write_data(f"{mount}/config/issuers", data={"default": issuer})

    def _read(self, mount: str, issuer: str) -> str:
        return str(self._client.read(f"{mount}/issuer/{issuer}/json")["data"]["certificate"])

    def _write_roles(self) -> None:
        lifetime = self._topology.certificate_seconds
        common = P256 | {"ttl": lifetime, "max_ttl": lifetime, "no_store": True, "server_flag": True}
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


def _is_signed_by(certificate: str, authority: str) -> bool:
    try:
        _parsed(certificate).verify_directly_issued_by(_parsed(authority))
    except (InvalidSignature, ValueError):
        return False
    return True


def _parsed(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())
