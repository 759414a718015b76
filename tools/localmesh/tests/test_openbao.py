"""OpenBao as a part of the mesh."""

import asyncio

import psutil

from localmesh.parts.openbao import OpenBao


def _listening(pid):
    connections = psutil.Process(pid).net_connections("tcp")
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


async def test_it_listens_on_the_ports_it_was_given_only(tmp_path):
    async with OpenBao(tmp_path / "data", tmp_path / "openbao.log") as server, asyncio.timeout(30):
        await asyncio.to_thread(server.client)
        while len(_listening(server.unit.pid)) < 2:  # the one of its cluster comes later  # noqa: ASYNC110
            await asyncio.sleep(0.05)

        assert _listening(server.unit.pid) == {server._port, server._cluster_port}
