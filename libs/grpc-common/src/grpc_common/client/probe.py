"""Why there is no connection: gRPC says it in text at best, so the way there is gone once more, step by step."""

import asyncio
import socket
import ssl
from enum import StrEnum
from typing import Final

from grpc_common.client.target import Target
from grpc_common.client.tls_files import ClientTLSFiles

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""A client's first words and its empty SETTINGS (RFC 9113 §3.4)."""
SETTINGS_FRAME: Final = 4
TLS_ALERT: Final = 0x15


class Cause(StrEnum):
    """What stood in the way; `ConnectionFailedError.cause` and `.reason`."""

    NAME_UNKNOWN = "NAME_UNKNOWN"
    NOTHING_LISTENS = "NOTHING_LISTENS"
    UNREACHABLE = "UNREACHABLE"
    CERTIFICATE_UNTRUSTED = "CERTIFICATE_UNTRUSTED"
    CERTIFICATE_EXPIRED = "CERTIFICATE_EXPIRED"
    CERTIFICATE_NOT_YET_VALID = "CERTIFICATE_NOT_YET_VALID"
    CERTIFICATE_NAME_MISMATCH = "CERTIFICATE_NAME_MISMATCH"
    CLIENT_CERTIFICATE_REFUSED = "CLIENT_CERTIFICATE_REFUSED"
    SERVER_SPEAKS_NO_TLS = "SERVER_SPEAKS_NO_TLS"
    SERVER_WANTS_TLS = "SERVER_WANTS_TLS"
    NOT_HTTP2 = "NOT_HTTP2"
    CLOSED_BY_PEER = "CLOSED_BY_PEER"


WORTH_A_RETRY: Final = frozenset({Cause.NOTHING_LISTENS, Cause.UNREACHABLE, Cause.CLOSED_BY_PEER, Cause.NAME_UNKNOWN})
"""The others stay until somebody changes a file or a setting."""

# X509_V_ERR_* of OpenSSL.
_EXPIRED: Final = 10
_NOT_YET: Final = 9
_NAME: Final = frozenset({62, 64})


class Probe:
    """Goes the way to one target as gRPC core does: name, TCP, TLS, HTTP/2."""

    def __init__(self, target: Target, tls: ClientTLSFiles | None, *, secure: bool) -> None:
        self._target = target
        self._tls = tls
        self._secure = secure

    async def diagnose(self, seconds: float) -> tuple[str, str, bool] | None:
        """Return the name of a Cause, a sentence and whether trying again is no use; None when nothing is found."""
        found = await self._walk(seconds)
        if found is None:
            return None
        cause, sentence = found
        return cause.value, sentence, cause not in WORTH_A_RETRY

    async def _walk(self, seconds: float) -> tuple[Cause, str] | None:
        target = self._target
        where = target.unix_path or f"{target.host}:{target.port}"
        if not target.unix_path and not target.host:
            return None
        try:
            async with asyncio.timeout(seconds):
                if target.host:
                    loop = asyncio.get_running_loop()
                    try:
                        await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
                    except socket.gaierror as error:
                        why = error.strerror or "no address"
                        return Cause.NAME_UNKNOWN, f"the name {target.host} does not resolve: {why}"
                return await self._talk(where)
        except TimeoutError:
            return Cause.UNREACHABLE, f"{where} does not answer within {seconds:g} s"
        except ssl.SSLError as error:
            return self._judge(where, error)
        except (ConnectionRefusedError, FileNotFoundError):
            return Cause.NOTHING_LISTENS, f"nothing listens on {where}: start the server there, or mend the target"
        except (ConnectionResetError, BrokenPipeError, asyncio.IncompleteReadError):
            return self._closed(where)
        except OSError as error:
            return Cause.UNREACHABLE, f"{where} cannot be reached: {error.strerror or error}"

    async def _talk(self, where: str) -> tuple[Cause, str] | None:
        target, context, name = self._target, None, None
        if self._secure:
            context = self._tls.context() if self._tls is not None else _trusting()
            name = (self._tls.settings.server_name if self._tls is not None else "") or target.host or "localhost"
        if target.unix_path:
            reader, writer = await asyncio.open_unix_connection(target.unix_path, ssl=context, server_hostname=name)
        else:
            reader, writer = await asyncio.open_connection(target.host, target.port, ssl=context, server_hostname=name)
        try:
            writer.write(PREFACE)
            head = await reader.readexactly(9)
        finally:
            writer.transport.abort()
        if head[3] == SETTINGS_FRAME:
            return None
        if head[0] == TLS_ALERT and not self._secure:
            return Cause.SERVER_WANTS_TLS, f"{where} speaks TLS, and the channel does not: make it with secure=True"
        return Cause.NOT_HTTP2, f"{where} does not speak HTTP/2, as gRPC does: is it the right port?"

    def _closed(self, where: str) -> tuple[Cause, str]:
        if not self._secure:
            return (
                Cause.CLOSED_BY_PEER,
                f"{where} closes the connection without a word, as servers do that want TLS: is secure=True missing?",
            )
        shown = self._tls is not None and self._tls.settings.cert is not None
        if shown:
            return Cause.CLIENT_CERTIFICATE_REFUSED, f"{where} closes the connection: it does not take our certificate"
        return (
            Cause.CLIENT_CERTIFICATE_REFUSED,
            f"{where} closes the connection, as servers do that want a client's certificate: give cert and key",
        )

    def _judge(self, where: str, error: ssl.SSLError) -> tuple[Cause, str]:
        if isinstance(error, ssl.SSLCertVerificationError):
            code, text = error.verify_code, error.verify_message
            if code == _EXPIRED:
                return Cause.CERTIFICATE_EXPIRED, f"the certificate of {where} has expired: it needs a new one"
            if code == _NOT_YET:
                return (
                    Cause.CERTIFICATE_NOT_YET_VALID,
                    f"the certificate of {where} is not valid yet: are clocks right?",
                )
            if code in _NAME:
                return (
                    Cause.CERTIFICATE_NAME_MISMATCH,
                    f"the certificate of {where} is for another name ({text}): mend the target, or set server_name",
                )
            return (
                Cause.CERTIFICATE_UNTRUSTED,
                f"the certificate of {where} is of an authority that is not trusted ({text}): set ca to the right one",
            )
        reason = (error.reason or "").upper()
        if "WRONG_VERSION" in reason or "RECORD_LAYER" in reason or "UNEXPECTED_MESSAGE" in reason:
            return Cause.SERVER_SPEAKS_NO_TLS, f"{where} does not speak TLS: serve with a certificate there"
        if "ALERT" in reason or "EOF" in reason:
            return self._closed(where)
        return Cause.CERTIFICATE_UNTRUSTED, f"TLS with {where} fails: {reason.replace('_', ' ').lower() or error}"


def _trusting() -> ssl.SSLContext:
    # What the credentials trust is not to be seen: only whether there is TLS at all is tried, and nothing is sent.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context
