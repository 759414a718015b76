"""What is taken out of a policy is gone from the configuration, from what happens, and from the reference."""

import json
import uuid

import pytest

from relayed import RELAY, Front


class Seen:
    """A mesh by what it generated, what it does, and what its reference says."""

    def __init__(self, mesh):
        self.mesh = mesh
        self.front = Front(mesh)
        self.reference = mesh("reference")[1]

    def config(self, envoy):
        return json.loads((self.mesh.state / "envoy" / f"{envoy}.json").read_text())

    def manager(self, envoy, listener):
        (found,) = [each for each in self.config(envoy)["static_resources"]["listeners"] if each["name"] == listener]
        return found["filter_chains"][0]["filters"][0]["typed_config"]

    def route(self, envoy, listener, method):
        hosts = self.manager(envoy, listener)["route_config"]["virtual_hosts"]
        return next(each["route"] for each in hosts[-1]["routes"] if each["match"].get("path") == f"{RELAY}/{method}")

    def callers(self, method):
        (rbac,) = [each for each in self.manager("relay-sidecar", "inbound")["http_filters"] if "rbac" in each["name"]]
        return json.dumps(rbac["typed_config"]["rules"]["policies"][f"{RELAY}/{method}"])

    def row(self, method):
        (line,) = [line for line in self.reference.splitlines() if line.startswith(f"| `{method}`")]
        return line


@pytest.fixture(scope="module")
def whole(relay_mesh):
    return Seen(relay_mesh)


@pytest.fixture(scope="module")
def tampered(tampered_mesh):
    return Seen(tampered_mesh)


def test_a_caller(whole, tampered):
    """Echo is the front's and the ingress's; without a list of its own it is the front's alone."""
    for seen, outside in ((whole, "OK"), (tampered, "PERMISSION_DENIED")):
        assert ("sa/ingress" in seen.callers("Echo")) == (outside == "OK")
        assert "sa/front" in seen.callers("Echo")
        assert ("ingress" in seen.row("Echo")) == (outside == "OK")
        assert seen.front.directly("Echo", "hello") == outside
        assert seen.front("Echo", "hello")["code"] == "OK"


def test_a_role(whole, tampered):
    """Roles are the service's to look at: no proxy's configuration names them, so none of them may differ."""
    token = {seen: seen.mesh.token(["editor"]) for seen in (whole, tampered)}
    assert whole.front("Guarded", token=token[whole])["code"] == "PERMISSION_DENIED"
    assert whole.front("Guarded", token=whole.mesh.token(["auditor"]))["code"] == "OK"
    assert tampered.front("Guarded", token=token[tampered])["code"] == "OK"
    assert tampered.front("Guarded")["code"] == "UNAUTHENTICATED"
    assert "role auditor" in whole.row("Guarded")
    assert "role" not in tampered.row("Guarded")
    assert whole.callers("Guarded") == tampered.callers("Guarded")


def test_a_retry(whole, tampered):
    assert whole.route("front-sidecar", "outbound", "Fail")["retry_policy"]["num_retries"] == 2
    assert "retry_policy" not in tampered.route("front-sidecar", "outbound", "Fail")
    key = uuid.uuid4()
    assert [seen.front("Fail", f"{key} 1")["code"] for seen in (whole, tampered)] == ["OK", "UNAVAILABLE"]
    assert "mesh: 3 attempts" in whole.row("Fail")
    assert "none" in tampered.row("Fail")


def test_a_timeout(whole, tampered):
    assert whole.route("relay-sidecar", "inbound", "Sleep")["timeout"] == "2.500s"
    assert tampered.route("relay-sidecar", "inbound", "Sleep")["timeout"] == "5.000s"
    assert [seen.front("Sleep", "1")["code"] for seen in (whole, tampered)] == ["DEADLINE_EXCEEDED", "OK"]
    assert "0.5 s" in whole.row("Sleep")
    assert "| 3 s" in tampered.row("Sleep")
