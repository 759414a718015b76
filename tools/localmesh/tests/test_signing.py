"""Each process that signs is handed a way to log in, before it starts and for later."""

import asyncio
import stat

import hvac
import pytest
from hvac.exceptions import VaultError

from localmesh import signing
from localmesh.failure import MeshError
from localmesh.parts.openbao import OpenBao
from localmesh.signing import SigningRoles


@pytest.fixture
async def openbao(tmp_path):
    async with OpenBao(tmp_path / "openbao", tmp_path / "openbao.log") as server:
        yield server


@pytest.fixture
async def roles(openbao, make_workloads, tmp_path):
    roles = SigningRoles(openbao, make_workloads(auth=2), tmp_path / "wrapped")
    roles.ids = await roles.set_up()
    return roles


def _log_in(openbao, role_id, wrapped):
    secret_id = hvac.Client(url=openbao.address, token=wrapped).sys.unwrap()["data"]["secret_id"]
    client = hvac.Client(url=openbao.address, token="")
    client.auth.approle.login(role_id, secret_id)
    client.write_data("transit/keys/access", data={"type": "ecdsa-p256", "exportable": False})
    return client


async def test_who_signs_has_a_role_and_each_process_its_own_way_in(openbao, roles, make_workloads):
    assert list(roles.ids) == ["auth"]
    files = []
    for workload in (each for each in make_workloads(auth=2) if each.service.transit):
        await roles.hand_over(workload)
        files.append(roles.file(workload))
        assert stat.S_IMODE(files[-1].stat().st_mode) == 0o600
    assert [file.name for file in files] == ["auth", "auth-2"]
    for file in files:
        await asyncio.to_thread(_log_in, openbao, roles.ids["auth"], file.read_text())
    with pytest.raises(VaultError):
        await asyncio.to_thread(_log_in, openbao, roles.ids["auth"], files[0].read_text())


async def test_a_process_that_has_used_its_way_in_finds_another_in_time(openbao, roles, make_workloads, monkeypatch):
    monkeypatch.setattr(signing, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(signing, "SECRET_ID_SECONDS", 0.5)
    workload = next(each for each in make_workloads() if each.service.transit)
    await roles.hand_over(workload)
    used = roles.file(workload).read_text()
    roles.file(workload).unlink()
    keeping = asyncio.create_task(roles.keep_fresh())
    async with asyncio.timeout(30):
        while not roles.file(workload).is_file():  # noqa: ASYNC110 - a file, looked at now and then
            await asyncio.sleep(0.05)
    keeping.cancel()
    another = roles.file(workload).read_text()
    assert another != used
    await asyncio.to_thread(_log_in, openbao, roles.ids["auth"], another)


async def test_while_openbao_is_away_nobody_is_handed_anything(openbao, roles, make_workloads):
    workload = next(each for each in make_workloads() if each.service.transit)
    await openbao.stop()
    with pytest.raises(MeshError, match="OpenBao lets nobody sign"):
        await roles.hand_over(workload)


async def test_the_next_version_of_the_key(openbao, roles, make_workloads):
    workload = next(each for each in make_workloads() if each.service.transit)
    await roles.hand_over(workload)
    client = await asyncio.to_thread(_log_in, openbao, roles.ids["auth"], roles.file(workload).read_text())
    assert await roles.rotate() == ["access"]
    assert sorted((await asyncio.to_thread(client.secrets.transit.read_key, "access"))["data"]["keys"]) == ["1", "2"]
