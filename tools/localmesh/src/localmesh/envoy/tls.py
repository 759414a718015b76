"""TLS from files that may change while Envoy runs, with SPIFFE ids as names."""

import json
from pathlib import Path

from localmesh.certificates import Identity
from localmesh.envoy.config import Config, extension, seconds, typed
from localmesh.files import write_atomically

_TLS = "envoy.extensions.transport_sockets.tls.v3"


def mutual_server(identity: Identity, *, trust_domain: str) -> Config:
    """Takes connections from whoever proves a SPIFFE id of the trust domain, whichever it is."""
    context = _common(identity, alpn=("h2",)) | _peer(identity, {"prefix": f"spiffe://{trust_domain}/"})
    return _socket("DownstreamTlsContext", common_tls_context=context, require_client_certificate=True)


def mutual_client(identity: Identity, *, server: str) -> Config:
    """Connects to nobody but the SPIFFE id `server`."""
    return _socket(
        "UpstreamTlsContext", common_tls_context=_common(identity, alpn=("h2",)) | _peer(identity, {"exact": server})
    )


def public_server(identity: Identity) -> Config:
    """Takes connections from everybody, over HTTP/2 and HTTP/1.1."""
    context = _common(identity, alpn=("h2", "http/1.1"), minimum="TLSv1_2")
    return _socket("DownstreamTlsContext", common_tls_context=context)


def write_secrets(identity: Identity) -> None:
    """Writes the files by which Envoy finds the certificates and learns that they were replaced."""
    watched = {"path": str(identity.folder)}
    certificate = {
        "certificate_chain": {"filename": str(identity.certificate)},
        "private_key": {"filename": str(identity.key)},
        "watched_directory": watched,
    }
    trust = {"trusted_ca": {"filename": str(identity.ca), "watched_directory": watched}}
    for name, secret in (("certificate", {"tls_certificate": certificate}), ("trust", {"validation_context": trust})):
        resource = typed(f"{_TLS}.Secret", name=name, **secret)
        path = _secret_file(identity, name)
        write_atomically(path, json.dumps({"resources": [resource]}, indent=2))


def _common(identity: Identity, *, alpn: tuple[str, ...], minimum: str = "TLSv1_3") -> Config:
    return {
        # Envoy's own maximum is 1.2 where it is the client
        "tls_params": {"tls_minimum_protocol_version": minimum, "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": list(alpn),
        "tls_certificate_sds_secret_configs": [_secret(identity, "certificate")],
    }


def _peer(identity: Identity, uri: Config) -> Config:
    names = {"match_typed_subject_alt_names": [{"san_type": "URI", "matcher": uri}]}
    return {
        "combined_validation_context": {
            "default_validation_context": names,
            "validation_context_sds_secret_config": _secret(identity, "trust"),
        }
    }


def _secret(identity: Identity, name: str) -> Config:
    source = {"path_config_source": {"path": str(_secret_file(identity, name))}, "resource_api_version": "V3"}
    return {"name": name, "sds_config": source | {"initial_fetch_timeout": seconds(5)}}


def _secret_file(identity: Identity, name: str) -> Path:
    return identity.folder / f"sds-{name}.json"


def _socket(message: str, **fields: object) -> Config:
    return extension("envoy.transport_sockets.tls", f"transport_sockets.tls.v3.{message}", **fields)
