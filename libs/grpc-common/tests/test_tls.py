"""A server's own certificates: who gets in, who is refused, and what happens when the files are replaced."""

import asyncio
import os
import socket
import ssl
from collections import Counter
from time import time

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
)
from grpc import StatusCode, aio
from pydantic import ValidationError
from structlog.testing import capture_logs

from authority import Authority, put
from grpc_common.peer_certificate import peer_principal
from grpc_common.server import GRPCServer
from grpc_common.settings import GRPCServerSettings, ServiceSettings, SettingsError, TLSSettings, load_settings
from meshwork.items.v1 import items_service_pb2 as pb
from meshwork.items.v1 import items_service_pb2_grpc as rpc

SERVER = [x509.DNSName("localhost")]
BILLING = "spiffe://meshwork.example/ns/meshwork/sa/billing"


class Items(rpc.ItemServiceServicer):
    async def GetItem(self, request, context):
        await asyncio.sleep(0.01)
        principal = peer_principal(context)
        return pb.Item(id=request.id, name=principal.subject if principal else "")


@pytest.fixture
def authority():
    return Authority("The authority")


@pytest.fixture
def other():
    return Authority("The other authority")


@pytest.fixture
def files(tmp_path, authority):
    """The files of a server that asks for client certificates."""
    settings = TLSSettings(cert=tmp_path / "tls.crt", key=tmp_path / "tls.key", client_ca=tmp_path / "ca.crt")
    cert, key = authority.issue(SERVER)
    put(settings.cert, cert)
    put(settings.key, key)
    put(settings.client_ca, authority.pem)
    return settings


@pytest.fixture
async def serve():
    started = []

    async def serve(tls):
        settings = GRPCServerSettings(enabled=True, host="127.0.0.1", port=0, tls=tls)
        server = GRPCServer.from_settings(settings)
        server.add_servicer(Items(), rpc.add_ItemServiceServicer_to_server)
        started.append(server)
        await server.start()
        return server

    yield serve
    for server in started:
        await server.stop(0)


def connect(server, root, pair=(None, None)):
    credentials = grpc.ssl_channel_credentials(root, pair[1], pair[0])
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    return aio.secure_channel(f"localhost:{server.port}", credentials, options=options)


async def ask(channel):
    """Return the status, and whom the server took the caller for."""
    call = rpc.ItemServiceStub(channel).GetItem(pb.GetItemRequest(id="1"), timeout=5)
    code = await call.code()
    return code, (await call).name if code is StatusCode.OK else None


async def ask_anew(server, root, pair=(None, None)):
    async with connect(server, root, pair) as channel:
        return await ask(channel)


async def serial(server):
    """Which certificate a new connection is shown."""

    def look():
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain,
            context.wrap_socket(plain) as tls,
        ):
            return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True)).serial_number

    return await asyncio.to_thread(look)


def serial_of(pem):
    return x509.load_pem_x509_certificate(pem).serial_number


async def test_who_trusts_the_authority_may_call(serve, files, authority, other):
    server = await serve(files.model_copy(update={"client_ca": None}))
    assert await ask_anew(server, authority.pem) == (StatusCode.OK, "")
    assert (await ask_anew(server, other.pem))[0] is StatusCode.UNAVAILABLE
    async with aio.insecure_channel(server.target) as channel:
        assert (await ask(channel))[0] is StatusCode.UNAVAILABLE


async def test_only_who_has_a_certificate_of_the_authority_may_call(serve, files, authority, other):
    server = await serve(files)
    spiffe = [x509.UniformResourceIdentifier(BILLING)]
    assert await ask_anew(server, authority.pem, authority.issue(spiffe)) == (StatusCode.OK, BILLING)
    assert (await ask_anew(server, authority.pem))[0] is StatusCode.UNAVAILABLE
    assert (await ask_anew(server, authority.pem, other.issue(spiffe)))[0] is StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("names", "subject"),
    [
        ([x509.DNSName("billing.example"), x509.DNSName("x.example")], "billing.example"),
        ([x509.DNSName("billing.example"), x509.UniformResourceIdentifier(BILLING)], BILLING),
        ([x509.UniformResourceIdentifier(BILLING), x509.UniformResourceIdentifier("spiffe://other/x")], ""),
        ([x509.UniformResourceIdentifier("https://billing.example")], ""),
        ([], ""),
    ],
)
async def test_whom_a_certificate_names(serve, files, authority, names, subject):
    server = await serve(files)
    pair = authority.issue(names, common_name="admin")
    assert await ask_anew(server, authority.pem, pair) == (StatusCode.OK, subject)


class Seen:
    """A servicer context of a connection with this certificate."""

    def __init__(self, pem):
        self._pem = pem

    def auth_context(self):
        return {"x509_pem_cert": [self._pem]}


def test_what_a_principal_knows_of_its_certificate(authority):
    by_spiffe = peer_principal(Seen(authority.issue([x509.UniformResourceIdentifier(BILLING)])[0]))
    assert (by_spiffe.kind, by_spiffe.issuer) == ("mtls", "meshwork.example")
    assert by_spiffe.expires_at == pytest.approx(time() + 3600, abs=60)
    assert not by_spiffe.roles | by_spiffe.scopes
    by_name = peer_principal(Seen(authority.issue([x509.DNSName("billing.example")])[0]))
    assert (by_name.subject, by_name.issuer) == ("billing.example", "CN=The authority")


async def test_files_are_replaced_under_calls_and_no_call_fails(serve, files, authority):
    server = await serve(files)
    pair = authority.issue([x509.UniformResourceIdentifier(BILLING)])
    ends, over = Counter(), asyncio.Event()

    async def keep_asking(channel):
        while not over.is_set():
            ends[(await ask(channel))[0]] += 1

    async def keep_connecting():
        while not over.is_set():
            ends[(await ask_anew(server, authority.pem, pair))[0]] += 1

    async with connect(server, authority.pem, pair) as channel:
        callers = [asyncio.create_task(keep_asking(channel)) for _ in range(10)]
        callers += [asyncio.create_task(keep_connecting()) for _ in range(2)]
        shown = set()
        for _ in range(5):
            cert, key = authority.issue(SERVER)
            put(files.cert, cert)
            await asyncio.sleep(0.05)  # somebody connects while certificate and key do not fit
            put(files.key, key)
            assert await serial(server) == serial_of(cert)
            shown.add(serial_of(cert))
        over.set()
        await asyncio.gather(*callers)
    assert len(shown) == 5
    assert set(ends) == {StatusCode.OK}
    assert ends[StatusCode.OK] > 50


async def test_other_callers_are_let_in_once_their_authority_is_trusted(serve, files, authority, other):
    server = await serve(files)
    pair = other.issue([x509.DNSName("billing.example")])
    assert (await ask_anew(server, authority.pem, pair))[0] is StatusCode.UNAVAILABLE
    put(files.client_ca, authority.pem + other.pem)
    assert await ask_anew(server, authority.pem, pair) == (StatusCode.OK, "billing.example")


@pytest.mark.parametrize("broken", [b"", b"no PEM at all", None])
@pytest.mark.parametrize("which", ["cert", "key", "client_ca"])
async def test_what_cannot_be_used_is_told_once_and_changes_nothing(serve, files, authority, which, broken):
    server = await serve(files)
    pair, before = authority.issue([x509.DNSName("billing.example")]), files.cert.read_bytes()
    path = getattr(files, which)
    with capture_logs() as logs:
        path.unlink() if broken is None else put(path, broken)
        for _ in range(3):
            assert await ask_anew(server, authority.pem, pair) == (StatusCode.OK, "billing.example")
        assert await serial(server) == serial_of(before)
    (line,) = (line for line in logs if line.get("component") == "tls" or "certificate" in line["event"])
    assert str(path) in line["problem"]
    put(path, authority.pem if which == "client_ca" else authority.issue(SERVER)[which == "key"])
    if which == "client_ca":
        assert (await ask_anew(server, authority.pem, pair))[0] is StatusCode.OK


async def test_files_that_cannot_be_used_from_the_start(serve, files, authority):
    _, key = authority.issue(SERVER)
    for path, content, sentence in [
        (files.key, key, f"{files.key} is not the key of the certificate {files.cert}."),
        (files.key, b"hunter2", f"{files.key} is not a private key in PEM."),
        (files.key, authority.issue(SERVER, encryption=BestAvailableEncryption(b"x"))[1], "without a passphrase."),
        (files.client_ca, b"hunter2", f"{files.client_ca} is not a certificate in PEM."),
        (files.cert, b"hunter2", f"{files.cert} is not a certificate in PEM."),
    ]:
        good = path.read_bytes()
        put(path, content)
        with pytest.raises(SettingsError) as caught:
            await serve(files)
        assert str(caught.value).endswith(sentence)
        assert "hunter2" not in str(caught.value)
        put(path, good)
    files.cert.unlink()
    with pytest.raises(SettingsError, match=r"tls\.crt cannot be read: No such file or directory\."):
        await serve(files)


def test_settings_name_the_files(monkeypatch, files):
    monkeypatch.setenv("GRPC__TLS__CERT", os.fspath(files.cert))
    monkeypatch.setenv("GRPC__TLS__KEY", os.fspath(files.key))
    monkeypatch.setenv("GRPC__TLS__CLIENT_CA", os.fspath(files.client_ca))
    assert load_settings(ServiceSettings).grpc.tls == files
    monkeypatch.delenv("GRPC__TLS__KEY")
    with pytest.raises(SettingsError, match="GRPC__TLS__KEY is not set: The private key of the certificate"):
        load_settings(ServiceSettings)


def test_with_tls_listening_in_the_open_is_safe(files):
    assert GRPCServerSettings(enabled=True, host="0.0.0.0", tls=files).tls == files  # noqa: S104
    for contradiction in ({"plaintext": "behind-mesh"}, {"unix_socket": "/run/items.sock"}):
        with pytest.raises(ValidationError, match="tls goes neither with unix_socket nor with plaintext"):
            GRPCServerSettings(tls=files, **contradiction)
