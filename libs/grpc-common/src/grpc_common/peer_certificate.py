"""Who is calling, by the certificate of the connection."""

from functools import lru_cache
from typing import Any, Final

from cryptography import x509

from grpc_common.principal import Principal

SPIFFE: Final = "spiffe://"


def peer_principal(context: Any) -> Principal | None:
    """Return who the caller's certificate says it is; None where TLS asked for none, or where it names nobody.

    The subject is the SPIFFE id, issued by its trust domain (X.509-SVID §2: then there is no other URI), or else the
    first DNS name, issued by the certificate's issuer (RFC 4514). A server with `client_ca` lets nobody in whose
    certificate core has not verified; the common name counts for nothing (RFC 9525 §2).
    """
    pem = b"".join(context.auth_context().get("x509_pem_cert", ()))
    return _principal(pem) if pem else None


@lru_cache(maxsize=1024)
def _principal(pem: bytes) -> Principal | None:
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    hosts = names.get_values_for_type(x509.DNSName)
    if any(uri.startswith(SPIFFE) for uri in uris):
        if len(uris) > 1:
            return None
        subject, issuer = uris[0], uris[0].removeprefix(SPIFFE).partition("/")[0]
    elif hosts:
        subject, issuer = hosts[0], certificate.issuer.rfc4514_string()
    else:
        return None
    return Principal(
        subject=subject,
        issuer=issuer,
        expires_at=certificate.not_valid_after_utc.timestamp(),
        issued_at=certificate.not_valid_before_utc.timestamp(),
        kind="mtls",
    )
