"""What a service calls goes out through its sidecar, which knows who is healthy, and repeats what it owns."""

import json
import os
import signal
import stat
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from localmesh.envoy import program
from localmesh.envoy.clusters import FAILURES_TO_BE_CAST_OUT
from relay.relay import SERVICE
from relayed import RELAY, Front

LOG_FLUSHED_WITHIN = 5.0
FRONT, INGRESS = (f"spiffe://meshwork.local/ns/default/sa/{name}" for name in ("front", "ingress"))


@pytest.fixture
def front(relay_mesh):
    return Front(relay_mesh)


def _logged(mesh, name, trace_or_path):
    give_up = time.monotonic() + LOG_FLUSHED_WITHIN
    while time.monotonic() < give_up:
        lines = (mesh.state / "logs" / f"{name}.log").read_text().splitlines()
        if found := [json.loads(line) for line in lines if line.startswith("{") and trace_or_path in line]:
            return found
        time.sleep(0.1)
    return []


def test_a_call_arrives_by_mutual_tls_with_the_callers_identity(relay_mesh, front):
    assert all(outcome["replies"][0].startswith("hello from ") for outcome in front.many(20, "Echo", "hello"))
    for sidecar in ("relay-sidecar", "relay-2-sidecar"):
        assert any(entry["path"].endswith("/Echo") for entry in _logged(relay_mesh, sidecar, FRONT))
        callers = {entry["caller"] for entry in _logged(relay_mesh, sidecar, "Echo")}
        assert callers - {INGRESS} == {FRONT}  # pages that other tests play call through the ingress


def test_each_service_has_keys_of_its_own_in_the_cache(relay_mesh, front):
    assert front("Keep", "text")["replies"] == ["text, refused"]
    url = (relay_mesh.state / "secrets" / "relay" / "relay_cache_url").read_text()
    password = url.split(":")[2].partition("@")[0]
    shown = [path.read_text(errors="replace") for path in (relay_mesh.state / "logs").iterdir()]
    assert not any(password in text for text in [*shown, relay_mesh("status", "--json")[1]])


def test_calls_are_shared_among_the_replicas(front):
    answers = {outcome["replies"][0] for outcome in front.many(40, "Echo", "hello")}
    assert len(answers) == 2


def test_the_mesh_repeats_what_it_owns(front):
    outcome = front("Fail", f"{uuid.uuid4()} 1")
    assert (outcome["code"], int(outcome["replies"][0])) in {("OK", 2), ("OK", 1)}, outcome


def test_the_mesh_gives_up_after_the_attempts_of_the_policy(relay_mesh, front):
    assert front("Fail", f"{uuid.uuid4()} 100")["code"] == "UNAVAILABLE"
    assert _logged(relay_mesh, "front-sidecar", f"{RELAY}/Fail")[-1]["attempts"] == 3


def test_a_write_is_tried_once(relay_mesh, front):
    assert front("Write", f"{uuid.uuid4()} 1")["code"] == "UNAVAILABLE"
    assert {entry["attempts"] for entry in _logged(relay_mesh, "front-sidecar", f"{RELAY}/Write")} == {1}


def test_the_servers_deadline_comes_before_the_meshs(front):
    outcome = front("Sleep", "5")
    assert outcome["code"] == "DEADLINE_EXCEEDED"
    assert outcome["seconds"] < 4.0  # the call takes 5
    assert "upstream" not in outcome["details"]


def test_a_server_that_hangs_is_deadline_exceeded_as_well(relay_mesh, front):
    """The timeout is that of a route: no server says it, so the mesh must not say UNAVAILABLE, which is repeated."""
    pids = [each["pid"] for each in relay_mesh.status()["services"] if each["name"].startswith("relay")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        outcome = front("Sleep", "0")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert outcome["code"] == "DEADLINE_EXCEEDED", outcome
    assert outcome["details"] == "upstream request timeout"
    _until_healthy(front)


def test_a_stream_is_not_cut_by_the_time_of_unary_calls(front):
    outcome = front("Count", "9 0.8", stream=True)
    assert outcome["replies"] == [str(number) for number in range(9)]


@pytest.mark.timeout(240)
def test_a_stream_to_a_sidecar_that_is_restarted_ends_as_unavailable(relay_mesh, front):
    """Those to the other replica go on until their own time is over."""
    with ThreadPoolExecutor() as pool:
        outcomes = pool.submit(front.many, 4, "Count", "1000 0.1", stream=True, timeout=18)
        time.sleep(0.5)  # they are under way then, or begin at the one that stays
        status, out, err = relay_mesh("restart", "relay-2-sidecar")
        assert status == 0, f"{out}\n{err}"
        assert {outcome["code"] for outcome in outcomes.result()} == {"UNAVAILABLE", "DEADLINE_EXCEEDED"}


def test_what_the_policy_does_not_let_the_front_call_it_cannot(front):
    assert front("/relay.v1.FrontService/Call")["code"] == "UNIMPLEMENTED"
    assert front("/grpc.health.v1.Health/List")["code"] == "UNIMPLEMENTED"


def test_a_relay_that_is_gone_gets_no_calls(relay_mesh, front):
    """Killed, one is not called again; its restart is noticed, too."""
    first = next(each for each in relay_mesh.status()["services"] if each["name"] == "relay")
    os.kill(first["pid"], signal.SIGKILL)
    codes = [front("Fail", f"{uuid.uuid4()} 0")["code"] for _ in range(10)]
    assert set(codes) == {"OK"}, codes
    _until_healthy(front)


def test_who_keeps_failing_is_cast_out(relay_mesh, front):
    """A relay that is healthy by its own word and answers UNAVAILABLE to all calls is not called for a while."""
    for _ in range(4 * FAILURES_TO_BE_CAST_OUT):
        front("Write", f"{uuid.uuid4()} 1")
    assert _ejections(relay_mesh) > 0
    _until_healthy(front)


def _ejections(mesh):
    (side,) = [each["sidecar"] for each in mesh.status()["services"] if each["name"] == "front"]
    text = httpx.get(
        f"http://{side['admin']}/stats?filter=^cluster.relay.outlier_detection.ejections_enforced_total"
    ).text
    return int(text.split()[-1])


def _until_healthy(front, within=15.0):
    give_up = time.monotonic() + within
    while {outcome["code"] for outcome in front.many(10, "Echo", "hello")} != {"OK"}:
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_only_the_owner_can_use_the_way_out(relay_mesh):
    log = (relay_mesh.state / "envoy" / "front-sidecar.json").read_text()
    (path,) = [word for word in log.split('"') if word.endswith("front-outbound.sock")]
    assert stat.S_ISSOCK(Path(path).stat().st_mode)
    assert Path(path).stat().st_mode & 0o077 == 0
    assert Path(path).parent.stat().st_mode & 0o077 == 0


def test_one_trace_leads_through_all(relay_mesh, front):
    front("Echo", "hello")
    names = {"ingress", "front-sidecar", "front", "relay-sidecar", "relay"}
    give_up = time.monotonic() + 15
    while True:
        traces = json.loads(relay_mesh("trace", "--json", "-n", "50")[1])
        through = [{span["service"].replace("-2", "") for span in trace["spans"]} for trace in traces]
        if any(names <= each for each in through):
            break
        assert time.monotonic() < give_up, through
        time.sleep(0.2)
    assert SERVICE in "".join(span["name"] for trace in traces for span in trace["spans"])


def test_envoy_itself_takes_every_generated_file(relay_mesh):
    for config in sorted((relay_mesh.state / "envoy").glob("*.json")):
        command = [str(program.program()), "--mode", "validate", "--config-path", str(config), "--log-level", "error"]
        outcome = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - Envoy
        assert outcome.returncode == 0, f"{config.name}: {outcome.stderr}"
