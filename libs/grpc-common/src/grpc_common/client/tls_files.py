"""What a client trusts and proves itself with, in files that may be replaced while it calls."""

import ssl
from pathlib import Path
from typing import Final

import grpc
import structlog

from grpc_common.settings import ClientTLSSettings
from grpc_common.tls import CertificateError, Version, file_version, read_authorities, read_pair


class ClientTLSFiles:
    """The files of `ClientTLSSettings`, read when they have changed."""

    def __init__(self, settings: ClientTLSSettings) -> None:
        self.settings: Final = settings
        self._paths: Final = [path for path in (settings.ca, settings.cert, settings.key) if path is not None]
        self._seen: Version = ()
        self._log = structlog.get_logger(component="client")

    @property
    def paths(self) -> list[Path]:
        """The files there are."""
        return self._paths

    def read(self) -> grpc.ChannelCredentials:
        """Return credentials of what is in the files now; raise CertificateError when that cannot be used."""
        self._seen = file_version(self._paths)
        settings = self.settings
        roots = None if settings.ca is None else read_authorities(settings.ca)
        if settings.cert is None or settings.key is None:
            return grpc.ssl_channel_credentials(roots)
        chain, key, leaf = read_pair(settings.cert, settings.key)
        self._log.info("certificate read", path=str(settings.cert), until=leaf.not_valid_after_utc.isoformat())
        return grpc.ssl_channel_credentials(roots, key, chain)

    def read_again(self) -> grpc.ChannelCredentials | None:
        """Return credentials when the files have changed and can be used; else None, and the ones before stay."""
        if not self._paths or file_version(self._paths) == self._seen:
            return None
        try:
            return self.read()
        except CertificateError as error:
            # Told once: what cannot be used is not read again until it changes.
            self._log.error("certificate not read, the one before stays", problem=str(error))
            return None

    def context(self) -> ssl.SSLContext:
        """Return the same for Python's own TLS, by which failed connections are looked into."""
        settings = self.settings
        context = ssl.create_default_context(cafile=None if settings.ca is None else str(settings.ca))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # gRPC core takes certificates without key identifiers
        if settings.cert is not None and settings.key is not None:
            context.load_cert_chain(settings.cert, settings.key)
        context.set_alpn_protocols(["h2"])
        return context
