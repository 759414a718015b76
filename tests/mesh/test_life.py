"""The mesh starts, stays, and goes, whatever is done to it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import time

import psutil
import pytest

from localmesh import ports, topology
from meshwork.items.v1 import items_service_pb2 as pb


def _until(condition, within=30.0):
    give_up = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(0.05)
    return value


def test_status_and_down(own_mesh):
    own_mesh.up()
    status = own_mesh.status()
    assert status["ready"]
    assert [each["name"] for each in status["services"]] == ["items", "auth"]
    assert [each["name"] for each in status["parts"]] == ["postgres", "openbao", "valkey"]
    assert status["ingress"]["rest"] == f"https://localhost:{own_mesh.port}"
    assert own_mesh("status")[0] == 0
    assert own_mesh("down")[0] == 0
    assert own_mesh("status", "--json")[0] == 4
    assert own_mesh.left() == []


def test_a_second_up_says_so(mesh):
    for arguments in (["up"], ["up", "--detach"]):
        status, _, err = mesh(*arguments)
        assert status == 1
        assert f"a mesh is already up in {mesh.state} (pid {mesh.supervisor()})" in err
    assert mesh.status()["ready"]


def test_a_mesh_that_is_stopped_is_not_ready(own_mesh):
    """As by Ctrl-Z: its processes go on, and nobody watches over them."""
    own_mesh.up()
    supervisor = own_mesh.supervisor()
    os.kill(supervisor, signal.SIGSTOP)
    status, out, err = own_mesh("status", "--json")
    assert (status, json.loads(out)["ready"]) == (3, False)
    assert f"the mesh (pid {supervisor}) is stopped: kill -CONT {supervisor} lets it go on" in err
    for command in (["token"], ["restart", "items"], ["call", "items", "--list"]):
        status, _, err = own_mesh(*command)
        assert status == 1
        assert f"(pid {supervisor}) is stopped" in err
    os.kill(supervisor, signal.SIGCONT)
    assert own_mesh("status")[0] == 0
    os.kill(supervisor, signal.SIGSTOP)
    assert own_mesh("down")[0] == 0
    assert own_mesh("status")[0] == 4
    assert own_mesh.left() == []


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_what_the_system_refuses_is_said(own_mesh, tmp_path, detach):
    (tmp_path / "file").touch()
    own_mesh.state = tmp_path / "file" / "state"
    own_mesh.named_by = ("--state", str(own_mesh.state))
    status, _, err = own_mesh("up", "--port", str(own_mesh.port), *detach)
    assert status == 1
    assert f"cannot write to the state folder {own_mesh.state}: Not a directory" in err
    assert "Traceback" not in err


def test_a_copy_of_the_state_of_a_running_mesh_is_not_that_mesh(mesh, own_mesh):
    """Down and up of the copy leave the original's processes alone, and the two go on side by side."""
    before = mesh.status()
    shutil.copytree(mesh.state, own_mesh.state)
    assert own_mesh("status")[0] == 4
    assert own_mesh("down")[0] == 0
    assert mesh.status() == before
    shutil.copy(mesh.state / "processes.json", own_mesh.state)
    own_mesh.up()
    with own_mesh.items() as items:
        assert items.CreateItem(pb.CreateItemRequest(name="Kettle", sku="COPY-1"), timeout=10).id
    own_mesh("down")
    assert mesh.status() == before


def test_a_mesh_whose_folder_is_gone_ends(own_mesh):
    """Nobody could ask it to: without the folder it is not to be found."""
    own_mesh.up()
    supervisor = psutil.Process(own_mesh.supervisor())
    running = [supervisor, *supervisor.children(recursive=True)]
    assert len(running) > 5
    shutil.rmtree(own_mesh.state)
    psutil.wait_procs(running, timeout=60)
    assert not [each for each in running if each.is_running()]
    own_mesh.up()
    assert own_mesh.status()["ready"]


def test_a_moved_folder_has_its_data(own_mesh):
    own_mesh.up()
    with own_mesh.items() as items:
        made = items.CreateItem(pb.CreateItemRequest(name="Kettle", sku="MOVED-1"), timeout=10)
    own_mesh("down")
    moved = own_mesh.state.with_name("moved")
    own_mesh.state.rename(moved)
    own_mesh.state, own_mesh.named_by = moved, ("--state", str(moved))
    own_mesh.up()
    with own_mesh.items() as items:
        assert items.GetItem(pb.GetItemRequest(id=made.id), timeout=10) == made


def test_data_and_authority_are_there_the_next_time(own_mesh):
    own_mesh.up()
    root = own_mesh.root_certificate()
    with own_mesh.items() as items:
        made = items.CreateItem(pb.CreateItemRequest(name="Kettle", sku="KIT-1"), timeout=10)
    own_mesh("down")
    own_mesh.up()
    with own_mesh.items() as items:
        assert items.GetItem(pb.GetItemRequest(id=made.id), timeout=10) == made
    assert own_mesh.root_certificate() == root
    assert own_mesh.token(fresh=True)  # of the user there was before


def test_what_dies_comes_back(own_mesh):
    own_mesh.up()
    status = own_mesh.status()
    victims = [status["services"][0]["pid"], status["services"][0]["sidecar"]["pid"], status["ingress"]["pid"]]
    victims += [part["pid"] for part in status["parts"]]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    _until(lambda: own_mesh("status")[0] == 3)
    _until(lambda: own_mesh("status")[0] == 0)
    # Once more if Postgres, killed with it, had not recovered by the time it came back.
    assert own_mesh.status()["services"][0]["restarts"] >= 1
    with own_mesh.items() as items:
        made = _until(lambda: _create(items))
    assert made.sku == "KIT-1"


def _create(items):
    try:
        return items.CreateItem(pb.CreateItemRequest(name="Kettle", sku="KIT-1"), timeout=10, wait_for_ready=True)
    except Exception:  # noqa: BLE001 - the ingress may not have seen yet that items is back
        return None


def test_kill_9_of_the_supervisor_leaves_nothing_and_the_next_up_works(own_mesh):
    own_mesh.up()
    os.kill(own_mesh.supervisor(), signal.SIGKILL)
    _until(lambda: own_mesh.processes() == [])
    assert own_mesh("status")[0] == 4
    own_mesh.up()
    assert own_mesh.status()["ready"]


@pytest.mark.parametrize("after", [0.05, 0.4, 0.8, 1.2, 1.8, 2.5, 4.0])
def test_ctrl_c_at_any_moment(own_mesh, after):
    with own_mesh.start("up", "--port", str(own_mesh.port)) as process:
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    if "localmesh/" in err or "KeyboardInterrupt" not in err:  # else Python itself was still starting
        assert process.returncode in {0, 130, -signal.SIGINT}
        assert "Traceback" not in err
    assert own_mesh.left() == []
    assert not ports.is_taken(own_mesh.port)


def test_ctrl_c_while_up_detach_waits(own_mesh):
    with own_mesh.start("up", "--detach", "--port", str(own_mesh.port)) as process:
        assert process.stdout is not None
        _until(lambda: "✓" in process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert own_mesh.left() == []


def test_a_port_that_is_taken(own_mesh):
    with socket.create_server((ports.LOOPBACK, own_mesh.port)):
        status, _, err = own_mesh("up", "--port", str(own_mesh.port))
    assert status == 1
    assert f"port {own_mesh.port} for the ingress is taken by " in err
    assert own_mesh.left() == []


def test_a_setting_nobody_knows(own_mesh):
    status, _, err = own_mesh("up", "--detach", "--port", str(own_mesh.port), "--env", "ITEMS_LOG_LEVLE=debug")
    assert status == 1
    assert "ITEMS_LOG_LEVLE" in err
    assert "Traceback" not in err
    assert own_mesh.left() == []


def test_a_service_that_dies_at_start(own_mesh, tmp_path):
    described = tmp_path / "topology.toml"
    described.write_text(topology.IN_THE_TREE.read_text().replace('module = "items.main"', 'module = "items.nothing"'))
    own_mesh._described = described
    status, _, err = own_mesh("up", "--port", str(own_mesh.port))
    assert status == 1
    assert "items died while starting, with exit status 1" in err
    assert "No module named items.nothing" in err
    assert own_mesh.left() == []


def test_two_replicas_share_the_work(own_mesh):
    own_mesh.up("--replicas", "items=2")
    assert [each["name"] for each in own_mesh.status()["services"]] == ["items", "items-2", "auth"]
    with own_mesh.items() as items:
        for number in range(20):
            items.CreateItem(pb.CreateItemRequest(name="Kettle", sku=f"KIT-{number}"), timeout=10)
    served = [own_mesh("logs", name)[1].count("ItemService/CreateItem") for name in ("items", "items-2")]
    assert sum(served) == 20
    assert min(served) > 0


def test_without_sidecars(own_mesh):
    own_mesh.up("--no-sidecars")
    assert own_mesh.status()["services"][0]["sidecar"] is None
    with own_mesh.items() as items:
        assert items.CreateItem(pb.CreateItemRequest(name="Kettle", sku="KIT-1"), timeout=10).id


def test_no_secret_is_to_be_seen(mesh):
    secrets = [
        (mesh.state / "openbao" / "root-token").read_text(),
        (mesh.state / "postgres" / "superuser-password").read_text(),
        (mesh.state / "secrets" / "items" / "items_database_url").read_text().split(":")[2].partition("@")[0],
        (mesh.state / "secrets" / "items" / "items_cache_url").read_text().split(":")[2].partition("@")[0],
        (mesh.state / "secrets" / "auth" / "auth_database_url").read_text().split(":")[2].partition("@")[0],
        *(path.read_text() for path in (mesh.state / "secrets" / "wrapped").iterdir()),  # of later logins
        mesh.token(),
        *(path.read_text() for path in (mesh.state / "kept-secrets").glob("*/*")),
    ]
    shown = [_command_line(process) for process in psutil.process_iter()]
    assert any("envoy" in each for each in shown)
    shown += [path.read_text(errors="replace") for path in (mesh.state / "logs").iterdir()]
    shown += [mesh("status", "--json")[1], mesh("status")[1]]
    for secret in secrets:
        assert not any(secret in text for text in shown)


def _command_line(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""


def test_the_whole_takes_little_memory(mesh):
    supervisor = psutil.Process(mesh.supervisor())
    total = supervisor.memory_info().rss
    for each in supervisor.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # one of Postgres that has just ended
            total += each.memory_info().rss
    assert total < 1.5 * 2**30


def test_the_demo(own_mesh):
    status, out, err = own_mesh("demo")
    assert status == 0, f"{out}\n{err}"
    assert "300 of 300 items" in out
    assert "ALREADY_EXISTS" in out
    assert own_mesh.left() == []


def test_a_demo_beside_a_mesh(mesh):
    with mesh.start("demo") as process:
        assert process.stdout is not None
        assert "Starting" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert mesh.status()["ready"]
