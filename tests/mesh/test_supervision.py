"""Processes die, and are back at once with all that they had; what a person asks for is there."""

import contextlib
import json
import os
import signal
import ssl
import time

import grpc
import httpx
import psutil
import pytest

from localmesh import topology
from meshwork.items.v1 import items_service_pb2 as pb

BACK_WITHIN = float(os.environ.get("MESH_BACK_WITHIN", "30"))
"""Seconds: on a machine with nothing else to do it is less than 10."""
ROUNDS = int(os.environ.get("MESH_ROUNDS", "5"))
"""`MESH_ROUNDS=200` for longer than the suite has."""


def _pids(status):
    found = {each["name"]: each["pid"] for each in status["parts"]}
    found["ingress"] = status["ingress"]["pid"]
    for service in status["services"]:
        found |= {service["name"]: service["pid"], f"{service['name']}-sidecar": service["sidecar"]["pid"]}
    return found


def _status(mesh):
    """Straight from the file: the command takes longer than some parts take to come back."""
    return json.loads((mesh.state / "status.json").read_text())


def _ready(mesh):
    return _status(mesh)["ready"]


def _until(condition, within, what):
    give_up = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < give_up, what
        time.sleep(0.02)
    return value


def _get(items, item_id):
    """The item, or nothing while the ingress has not seen yet that somebody is back."""
    try:
        return items.GetItem(pb.GetItemRequest(id=item_id), timeout=10, wait_for_ready=True)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        return None


def _zombies(supervisor):
    """Those that nobody waits for; a process of Postgres that has just ended is one for a moment, or gone."""
    found = []
    for each in supervisor.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.status() == psutil.STATUS_ZOMBIE:
                found.append(each.pid)
    return found


def test_each_process_that_is_killed_is_back_in_time_with_its_data(own_mesh):
    own_mesh.up()
    with own_mesh.items() as items:
        made = items.CreateItem(pb.CreateItemRequest(name="Kettle", sku="KIT-1"), timeout=10)
    supervisor = psutil.Process(own_mesh.supervisor())
    took = {}
    for name, pid in _pids(own_mesh.status()).items():
        began = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        _until(lambda pid=pid: pid not in _pids(_status(own_mesh)).values(), 5, name)
        _until(lambda: _ready(own_mesh), BACK_WITHIN, f"{name} was not back in time")
        with own_mesh.items() as items:
            got = _until(lambda items=items: _get(items, made.id), BACK_WITHIN, f"no item after {name} was killed")
        took[name] = time.monotonic() - began
        assert got == made, name
        _until(lambda: not _zombies(supervisor), 5, f"a zombie is left after {name} was killed")
    print("seconds:", {name: round(seconds, 1) for name, seconds in took.items()})
    out = own_mesh("status")[1]
    assert "ended by SIGKILL" in out


@pytest.mark.timeout(300 + 40 * ROUNDS)
def test_starts_and_stops_in_a_row_leave_nothing(own_mesh):
    for _ in range(ROUNDS):
        own_mesh.up()
        assert own_mesh("down")[0] == 0
        assert own_mesh.left() == []
    assert not list(own_mesh.state.glob("**/*.sock"))
    assert not (own_mesh.state / "status.json").exists()


def test_the_ingress_refuses_what_is_too_much_and_always_answers_for_health(own_mesh, tmp_path):
    text = topology.IN_THE_TREE.read_text()
    assert "calls_per_second = 5000" in text
    own_mesh._described = tmp_path / "topology.toml"
    own_mesh._described.write_text(text.replace("calls_per_second = 5000", "calls_per_second = 5"))
    own_mesh.up("--only", "items")
    context = ssl.create_default_context(cafile=own_mesh.state / "ca.pem")
    headers = {"authorization": f"Bearer {own_mesh.token()}"}
    with httpx.Client(base_url=f"https://localhost:{own_mesh.port}", verify=context, headers=headers) as rest:
        answers = [rest.get("/v1/items/nobody") for _ in range(60)]
    refused = [each for each in answers if each.status_code == 429]
    assert {each.status_code for each in answers} == {404, 429}
    assert refused[0].json()["code"] == 8
    assert own_mesh.status()["ready"]  # which asks for health through the ingress
    with own_mesh.items() as items:
        codes = {_code(items) for _ in range(60)}
    assert codes == {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED}


def _code(items):
    with pytest.raises(grpc.RpcError) as answered:
        items.GetItem(pb.GetItemRequest(id="nobody"), timeout=10)
    return answered.value.code()
