"""A change of the authority may be cut short at any point, and at no moment somebody is not trusted."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from itertools import product

import psutil
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from requests.adapters import HTTPAdapter

from localmesh import renewal
from localmesh.certificates import Identity
from localmesh.failure import MeshError
from localmesh.parts.openbao import OpenBao
from localmesh.pki import Authority
from localmesh.renewal import Certificates


@pytest.fixture
async def openbao(tmp_path):
    async with OpenBao(tmp_path / "openbao", tmp_path / "openbao.log") as server:
        yield server


class Line(HTTPAdapter):
    """A connection to OpenBao on which `before` is called with the number of each request that changes something."""

    def __init__(self, before):
        super().__init__()
        self.changes = 0
        self._before = before

    def send(self, request, *arguments, **options):
        if request.method not in {"GET", "LIST", "HEAD"}:
            self.changes += 1
            self._before(self.changes)
        return super().send(request, *arguments, **options)


def _certificates(path):
    return x509.load_pem_x509_certificates(path.read_bytes())


def _trusts(roots, identity):
    leaf, intermediate, *_ = _certificates(identity.certificate)
    leaf.verify_directly_issued_by(intermediate)
    for root in _certificates(roots):
        with suppress(InvalidSignature):
            intermediate.verify_directly_issued_by(root)
            return True
    return False


@pytest.mark.parametrize("mesh_starts_anew", [False, True])
async def test_everybody_trusts_everybody_whenever_it_is_cut(
    openbao, described, make_workloads, tmp_path, monkeypatch, mesh_starts_anew
):
    monkeypatch.setattr(renewal, "CLIENTS_HEAR_WITHIN", 0)
    server, client = (Identity(name, tmp_path / name) for name in ("ingress-server", "ingress"))
    workloads = make_workloads()[:1]

    def made():
        return Certificates(openbao, described, workloads, server=server, client=client, ca=tmp_path / "ca.pem")

    def all_trust_all():
        for one, other in product(certificates.identities, repeat=2):
            assert _trusts(one.ca, other), f"{one.name} does not trust {other.name}"
        assert _trusts(tmp_path / "ca.pem", server)

    async def replaced(cut_at):
        """Whether the authority was replaced before the line was cut."""

        def look(number):
            all_trust_all()
            if number == cut_at:
                raise ConnectionError("the line is cut")

        certificates._authority._client.session.mount("http://", Line(look))
        with suppress(MeshError):
            await certificates.replace_authority(())
            return True
        return False

    certificates = made()
    await certificates.renew()
    cut_at = 1
    while not await replaced(cut_at):
        all_trust_all()
        if mesh_starts_anew:
            certificates = made()
            await certificates.renew()
        assert await replaced(None), f"after a cut before change {cut_at}"
        all_trust_all()
        cut_at += 1
    assert cut_at > 10
    assert len(_certificates(tmp_path / "ca.pem")) == 2


async def test_openbao_may_die_at_each_step_of_a_take_over(openbao, described, tmp_path):
    early, late = Identity("early", tmp_path / "early"), Identity("late", tmp_path / "late")

    async def given(identity):
        await asyncio.to_thread(authority.issue_workload, identity, "items")
        assert _trusts(identity.ca, identity)

    cut_at, done = 1, False
    while not done:
        authority = Authority(await asyncio.to_thread(openbao.client), described)
        await given(early)
        await asyncio.to_thread(authority.announce)
        authority._client.session.mount("http://", Line(lambda number, at=cut_at: number == at and _kill(openbao)))
        try:
            await asyncio.to_thread(authority.take_over)
            done = True
        except OSError:
            await openbao.unit.stop()
            await openbao.unit.start()
        authority._client.session.mount("http://", HTTPAdapter())
        await given(late)
        assert _trusts(late.ca, early), f"OpenBao died at change {cut_at}"
        await asyncio.to_thread(authority.announce)
        await given(early)
        assert _trusts(early.ca, late), f"OpenBao died at change {cut_at}"
        cut_at += 1
    assert cut_at > 5


def _kill(openbao):
    process = psutil.Process(openbao.unit.pid)
    os.kill(process.pid, signal.SIGKILL)
    with suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.005)
