"""The guide to certificates without a mesh does what it says, as it stands there."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

import items.main  # noqa: F401  # the guide starts it
from grpc_common.client.factory import GRPCClientFactory
from grpc_common.client.remote_error import ConnectionFailedError
from grpc_common.settings import ClientTLSSettings

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "manual-certificates.md"
BASH = "/bin/bash"
PATIENCE = 30
NAMES = (Path, grpc, asyncio, HealthStub, HealthCheckRequest, ClientTLSSettings, GRPCClientFactory)


def blocks(language):
    """The code of the guide in one language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


@pytest.fixture
def environment():
    # The guide is followed in another folder: what is relative to this one must not stay so.
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}


def certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def shown(log):
    """How often the service has read a certificate."""
    return log.read_text().count('"certificate read"')


def until(condition, log):
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, log.read_text()
        time.sleep(0.1)


def test_the_guide(tmp_path, monkeypatch, capsys, environment, port):
    monkeypatch.chdir(tmp_path)
    make, serve, renew = blocks("sh")
    calls = [code.replace("50443", str(port)) for code in blocks("python")]
    assert len(calls) == 2
    subprocess.run([BASH, "-ec", make], check=True)  # noqa: S603
    serve = serve.replace("50443", str(port)).replace("python -m", f"exec {sys.executable} -m")
    names = {each.__name__: each for each in NAMES}
    log = tmp_path / "log"
    with log.open("wb") as output:
        service = subprocess.Popen([BASH, "-ec", serve], env=environment, stderr=output)  # noqa: S603
    try:
        until(lambda: '"serving"' in log.read_text(), log)
        for call in calls:
            exec(call, names)  # noqa: S102
            assert capsys.readouterr().out.endswith("status: SERVING\n\n")
        before = certificate(tmp_path / "items.pem")
        subprocess.run([BASH, "-ec", _again(make, renew)], check=True)  # noqa: S603
        for call in calls:
            exec(call, names)  # noqa: S102
            assert capsys.readouterr().out.endswith("status: SERVING\n\n")
        assert certificate(tmp_path / "items.pem") != before
        until(lambda: shown(log) == 2, log)
        service.send_signal(signal.SIGTERM)
        assert service.wait(PATIENCE) == 0
    finally:
        service.kill()
        service.wait()


def _again(make, renew):
    """What was defined when the certificates were made is there in the same shell, but they are not made again."""
    defined = [line for line in make.splitlines() if line.startswith(("new()", "signed="))]
    return "\n".join([*defined, renew])


STRANGER = """
new -subj "/CN=Other" -keyout other-ca.key -out other-ca.pem -addext keyUsage=critical,keyCertSign
signed="-CA other-ca.pem -CAkey other-ca.key -addext basicConstraints=critical,CA:FALSE"
new $signed -subj "/CN=billing" -keyout other.key -out other.pem -addext subjectAltName=$id
"""


def test_callers_without_a_certificate_of_the_authority_are_refused(tmp_path, monkeypatch, environment, port):
    monkeypatch.chdir(tmp_path)
    make, serve, _ = blocks("sh")
    subprocess.run([BASH, "-ec", f"{make}\n{STRANGER}"], check=True)  # noqa: S603
    serve = serve.replace("50443", str(port)).replace("python -m", f"exec {sys.executable} -m")
    log = tmp_path / "log"
    with log.open("wb") as output:
        service = subprocess.Popen([BASH, "-ec", serve], env=environment, stderr=output)  # noqa: S603
    try:
        until(lambda: '"serving"' in log.read_text(), log)
        assert asyncio.run(_ask(port, cert="billing")) == "SERVING"
        assert asyncio.run(_ask(port, cert="other")) == "CLIENT_CERTIFICATE_REFUSED"
        assert asyncio.run(_ask(port, cert=None)) == "CLIENT_CERTIFICATE_REFUSED"
        assert asyncio.run(_ask(port, cert="billing", ca="other-ca.pem")) == "CERTIFICATE_UNTRUSTED"
    finally:
        service.kill()
        service.wait()


async def _ask(port, *, cert, ca="ca.pem"):
    """The answer of the service, or how the call failed, asked by a client with these files."""
    pair = {} if cert is None else {"cert": Path(f"{cert}.pem"), "key": Path(f"{cert}.key")}
    async with GRPCClientFactory(tls=ClientTLSSettings(ca=Path(ca), **pair)) as factory:
        stub = factory.create_stub(HealthStub, f"localhost:{port}")
        try:
            answer = await stub.Check(HealthCheckRequest(service="meshwork.items.v1.ItemService"), timeout=5)
        except ConnectionFailedError as error:
            return error.cause
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
