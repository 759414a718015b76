"""Envoy itself takes every configuration we can make."""

import subprocess

import pytest

from localmesh import ports
from localmesh.certificates import Identity
from localmesh.envoy import program, tls
from localmesh.envoy.ingress import Gate, ingress
from localmesh.envoy.sidecar import sidecar
from localmesh.testing import install_self_signed


def _accepts(config, path):
    program.write(config, path)
    command = [str(program.program()), "--mode", "validate", "--config-path", str(path), "--log-level", "error"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - Envoy


@pytest.mark.parametrize("name", ["items", "items-2", "auth"])
def test_a_sidecar(described, make_workloads, tmp_path, name):
    everyone = make_workloads(items=2)
    (workload,) = [each for each in everyone if each.name == name]
    install_self_signed(workload.identity)
    tls.write_secrets(workload.identity)
    outcome = _accepts(sidecar(described, workload, everyone, 4317), tmp_path / "sidecar.json")
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize("sidecars", [True, False])
def test_the_ingress(described, make_workloads, tmp_path, sidecars):
    server, client = (Identity(name, tmp_path / name) for name in ("ingress-server", "ingress"))
    for identity in (server, client):
        install_self_signed(identity)
        tls.write_secrets(identity)
    gate = Gate(
        port=ports.free_port(),
        admin_port=ports.free_port(),
        traces_port=ports.free_port(),
        server=server,
        client=client,
        sidecars=sidecars,
    )
    outcome = _accepts(ingress(described, gate, make_workloads()), tmp_path / "ingress.json")
    assert outcome.returncode == 0, outcome.stderr


def test_nonsense_is_refused(tmp_path):
    assert _accepts({"admin": {"port": 1}}, tmp_path / "nonsense.json").returncode != 0
