"""The guide to certificates without a mesh does what it says, as it stands there."""

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
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

import items.main  # noqa: F401  # the guide starts it

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "manual-certificates.md"
BASH = "/bin/bash"
PATIENCE = 30


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
    (call,) = (code.replace("50443", str(port)) for code in blocks("python"))
    subprocess.run([BASH, "-ec", make], check=True)  # noqa: S603
    serve = serve.replace("50443", str(port)).replace("python -m", f"exec {sys.executable} -m")
    names = {"Path": Path, "grpc": grpc, "HealthStub": HealthStub, "HealthCheckRequest": HealthCheckRequest}
    log = tmp_path / "log"
    with log.open("wb") as output:
        service = subprocess.Popen([BASH, "-ec", serve], env=environment, stderr=output)  # noqa: S603
    try:
        until(lambda: '"serving"' in log.read_text(), log)
        exec(call, names)  # noqa: S102
        assert capsys.readouterr().out == "status: SERVING\n\n"
        before = certificate(tmp_path / "items.pem")
        subprocess.run([BASH, "-ec", _again(make, renew)], check=True)  # noqa: S603
        exec(call, names)  # noqa: S102
        assert capsys.readouterr().out == "status: SERVING\n\n"
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
