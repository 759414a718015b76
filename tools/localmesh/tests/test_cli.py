"""The command line says in a sentence what it does not understand."""

import json
import os
import socket
import subprocess
import sys

import pytest

from localmesh import cli, ports
from localmesh.environment import state_folder
from localmesh.failure import UsageError


@pytest.fixture
def mesh(tmp_path, capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(["--state", str(tmp_path / "state"), *arguments])
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["upp"], "invalid choice: 'upp'"),
        (["up", "--prot", "1"], "unrecognized arguments: --prot 1"),
        (["up", "--port", "99999"], "'99999' is no port: 1 to 65535"),
        (["up", "--replicas", "items"], "'items' is not SERVICE=N with N from 1 to 9"),
        (["up", "--replicas", "itms=2"], "there is no service itms; did you mean items?"),
        (["up", "--otlp", "localhost"], "'localhost' has no port: write host:port"),
        (["up", "--otlp", "http://localhost:4317"], "'http://localhost:4317' is no target"),
        (["up", "--otlp", "unix:/run/otlp.sock"], "'unix:/run/otlp.sock' is not HOST:PORT, such as localhost:4317"),
        (["up", "--otlp", "localhost:0"], "'localhost:0' has no valid port"),
        (["call", "items", "ListItems", "--timeout", "nan"], "'nan' is no number of seconds above 0"),
        (["call", "items", "ListItems", "--timeout", "inf"], "'inf' is no number of seconds above 0"),
        (["call", "items", "ListItems", "--timeout", "1e999"], "'1e999' is no number of seconds above 0"),
        (["call", "items", "ListItems", "--timeout", "0"], "'0' is no number of seconds above 0"),
        (["call", "items", "ListItems", "--timeout", "-1"], "'-1' is no number of seconds above 0"),
        (["--state", "", "status"], "argument --state: it names no folder"),
        (["logs", "items"], "the mesh has not run yet"),
    ],
)
def test_wrong_usage_exits_with_2_and_a_sentence(mesh, arguments, sentence):
    status, out, err = mesh(*arguments)
    assert (status, out) == (2, "")
    assert sentence in err
    assert len(err.splitlines()) == 1


def test_a_call_of_nothing_is_told_how_to_be_made(mesh):
    """Whether a mesh runs or not."""
    status, out, err = mesh("call")
    assert (status, out) == (2, "")
    assert err == (
        "mesh: name a service, a method and the request as JSON: ./mesh call SERVICE METHOD '{…}'\n"
        "mesh: the services are items, auth; ./mesh call items lists the methods of items\n"
    )
    assert mesh("call", "--list")[0] == 2
    status, _, err = mesh("call", "itms", "GetItem")
    assert (status, err) == (2, "mesh: there is no service itms; did you mean items?; there are: items, auth\n")
    assert mesh("call", "items", "GetItem")[0] == 4


def test_status_of_nothing(mesh):
    status, out, _ = mesh("status", "--json")
    assert status == 4
    assert json.loads(out) == {"ready": False, "ingress": None, "services": [], "parts": []}


def test_no_token_without_a_mesh(mesh):
    status, out, err = mesh("token")
    assert (status, out) == (4, "")
    assert "the mesh is not running" in err


def test_down_of_nothing_is_fine(mesh):
    assert mesh("down")[0] == 0


def test_a_taken_ingress_port_is_named(mesh):
    with socket.create_server((ports.LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        status, _, err = mesh("up", "--port", str(port))
    assert status == 1
    assert f"port {port} for the ingress is taken by " in err


def test_logs_of_something_unknown(mesh, tmp_path):
    (tmp_path / "state" / "logs").mkdir(parents=True)
    (tmp_path / "state" / "logs" / "items.log").write_text("one\ntwo\n")
    status, _, err = mesh("logs", "itms")
    assert status == 2
    assert "nothing called itms has logs; did you mean items?" in err
    assert mesh("logs", "items")[1] == "one\ntwo\n"


def test_a_misspelt_variable_is_named(tmp_path):
    assert state_folder(tmp_path, {"MESHWORK_STATE": "/elsewhere", "HOME": "/"}).as_posix() == "/elsewhere"
    with pytest.raises(UsageError, match=r"MESHWORK_STAET is set, .* did you mean MESHWORK_STATE\?"):
        state_folder(tmp_path, {"MESHWORK_STAET": "/elsewhere"})


def test_standard_streams_that_are_closed(tmp_path):
    """As by a job that has none: nothing else takes their place, and nothing is told by a traceback."""
    run = f"{sys.executable} -m localmesh --state {tmp_path / 'state'}"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for streams in (">&-", "<&- >&- 2>&-", "<&-"):
        argv = ["/bin/sh", "-c", f"{run} status {streams}"]
        ended = subprocess.run(argv, env=environ, capture_output=True, timeout=60)  # noqa: S603
        assert (ended.returncode, ended.stderr) == (4, b""), streams
