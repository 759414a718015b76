"""Certificates in files, and a server's own, which may be replaced while it serves."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from grpc_common.settings import SettingsError, TLSSettings

type Version = tuple[tuple[int, ...], ...]


class CertificateError(Exception):
    """Files a server cannot prove itself with; the message names the file, and shows nothing of what is in it."""


class CertificateFiles:
    """The files of `TLSSettings`, looked at whenever somebody connects; connections there are go on as they are.

    Replace a file by renaming another over it, as Kubernetes does with what it mounts. While certificate and key do
    not fit, as between two renames, or cannot be read, the pair there was before goes on serving.
    """

    def __init__(self, settings: TLSSettings) -> None:
        self._settings: Final = settings
        self._paths: Final = [path for path in (settings.cert, settings.key, settings.client_ca) if path is not None]
        self._seen: Version = ()
        self._log = structlog.get_logger(component="tls")

    def credentials(self) -> grpc.ServerCredentials:
        """Return what `add_secure_port` wants. Raise SettingsError when the files cannot be used."""
        try:
            self._seen = file_version(self._paths)
            first = self._read()
        except CertificateError as error:
            raise SettingsError([f"{error}."]) from error
        asks = self._settings.client_ca is not None
        return grpc.dynamic_ssl_server_credentials(first, self._changed, asks)  # type: ignore[arg-type]  # may be None

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        # Core asks in a thread of its own, before each handshake; nothing may be raised there.
        try:
            version = file_version(self._paths)
            if version == self._seen:
                return None
            self._seen = version  # also of what cannot be used: it is told once and not read again
            return self._read()
        except CertificateError as error:
            self._log.error("certificate not read, the one before stays", problem=str(error))
            return None

    def _read(self) -> grpc.ServerCertificateConfiguration:
        settings = self._settings
        chain, key, leaf = read_pair(settings.cert, settings.key)
        roots = None if settings.client_ca is None else read_authorities(settings.client_ca)
        self._log.info("certificate read", path=str(settings.cert), until=leaf.not_valid_after_utc.isoformat())
        return grpc.ssl_server_certificate_configuration([(key, chain)], roots)


def read_pair(cert: Path, key: Path) -> tuple[bytes, bytes, x509.Certificate]:
    """Return the chain, its key and the first certificate of the chain; raise CertificateError unless they fit."""
    chain, secret = _content(cert), _content(key)
    leaf = _certificates(cert, chain)[0]
    try:
        public = load_pem_private_key(secret, None).public_key()
    except TypeError as error:
        raise CertificateError(f"{key} is encrypted: give a key without a passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{key} is not a private key in PEM") from error
    if public != leaf.public_key():
        raise CertificateError(f"{key} is not the key of the certificate {cert}")
    return chain, secret, leaf


def read_authorities(path: Path) -> bytes:
    """Return certificates of authorities; raise CertificateError where there are none."""
    pem = _content(path)
    _certificates(path, pem)
    return pem


def file_version(paths: Iterable[Path]) -> Version:
    """Return what changes whenever one of the files does."""
    versions: list[tuple[int, ...]] = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            versions.append(())  # who reads it says why
        else:
            versions.append((stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return tuple(versions)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from error


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise CertificateError(f"{path} is not a certificate in PEM") from error
