"""What looks at REST requests lets nothing through when it fails itself: Envoy would."""

import json
import tempfile
from http import HTTPStatus
from pathlib import Path

import pytest

from localmesh import topology
from localmesh.workload import workloads
from recorded_ingress import recorded_ingress


@pytest.mark.parametrize(
    ("filter_", "fault"), [("arrive", "string.find = nil"), ("look", "METHODS = nil"), ("refuse", "METHODS = nil")]
)
def test_a_script_that_fails_refuses(filter_, fault):
    def broken(config):
        name = f"envoy.filters.http.lua.{filter_}"
        text = json.dumps(config)
        assert text.count(name) == 1
        manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        (found,) = [each for each in manager["http_filters"] if each["name"] == name]
        found["typed_config"]["default_source_code"]["inline_string"] += f"\n{fault}\n"
        return config

    with tempfile.TemporaryDirectory(prefix="ingress-") as name:
        folder, read = Path(name), topology.read(topology.IN_THE_TREE)
        ours = tuple(workloads(read, {}, sockets=folder, certificates=folder / "certificates"))
        ready = HTTPStatus.INTERNAL_SERVER_ERROR if filter_ != "look" else HTTPStatus.OK
        with recorded_ingress(read, ours, folder, ready=ready, change=broken) as front, front.client() as client:
            answer = client.patch("/v1/items/A", json={"quantity": 1})
            assert answer.status_code == 500, answer.text
            assert answer.json()["code"] == 13
            assert not front.calls
            assert "attempt to" in front.log.read_text()
