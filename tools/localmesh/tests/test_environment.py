"""What a process of the mesh has in its environment is made, not found."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localmesh import environment, service
from localmesh.failure import UsageError
from localmesh.options import Options
from localmesh.processes import Processes
from localmesh.state import StateFolder

NAMES = st.text(string.ascii_uppercase + "_", min_size=1, max_size=12) | st.sampled_from(
    ["HOME", "LC_ALL", "TERM", "PGSSLMODE", "HTTP_PROXY", "OTEL_SDK_DISABLED", "PYTHONPATH", "LD_PRELOAD", "TMPDIR"]
)


@given(st.dictionaries(NAMES, st.text(max_size=5)))
@settings(max_examples=100, deadline=None)
def test_nothing_is_handed_on_but_what_any_program_needs(environ):
    ours = dict(environ)
    assert environment.leave_rest(ours) == environ
    assert environment.handed_on(ours) == environment.handed_on(environ)
    for name, value in environment.handed_on(environ).items():
        assert environ[name] == value
        assert name in {"HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER"} or name.startswith("LC_")
    assert ours.keys() - environment.handed_on(environ).keys() <= environment.TERMINAL


@pytest.mark.parametrize(
    ("texts", "asked"),
    [
        ([], {}),
        (["A=1", "B="], {"A": "1", "B": ""}),
        (["A=1=2", "HERE"], {"A": "1=2", "HERE": "is"}),
    ],
)
def test_a_variable_is_asked_for_with_its_value_or_as_it_is(texts, asked):
    assert environment.asked_for(texts, {"HERE": "is"}) == asked


@pytest.mark.parametrize("text", ["", "=1", "GONE"])
def test_a_variable_that_is_not_there_is_named(text):
    with pytest.raises(UsageError, match=f"--env {text}: it is NAME=VALUE"):
        environment.asked_for([text], {})


def test_a_variable_is_for_the_service_with_its_prefix_or_for_all(described):
    items, auth = described.services["items"], described.services["auth"]
    asked = {"ITEMS_LOG_LEVEL": "debug", "auth_token_lifetime": "60", "GRPC_TRACE": "http"}
    assert described.environment_of(items, asked) == {"ITEMS_LOG_LEVEL": "debug", "GRPC_TRACE": "http"}
    assert described.environment_of(auth, asked) == {"auth_token_lifetime": "60", "GRPC_TRACE": "http"}


@pytest.fixture
def processes(described, tmp_path):
    def make(**asked):
        return Processes(described, StateFolder(tmp_path), None, Options(environment=asked), port=1, traces_port=2)

    return make


def test_what_a_service_has_is_known_before_it_starts(processes, described, monkeypatch):
    """Each name that the mesh or its topology gives is refused from anybody else, in any case, alone or in a model."""
    for name in ("ITEMS_DATABASE_URL", "HTTPS_PROXY", "PGSSLMODE", "OTEL_SDK_DISABLED"):
        monkeypatch.setenv(name, "hostile")
    made = processes(ITEMS_LOG_LEVEL="debug", AUTH_PASSWORD_GRANT="true")
    for workload in made.workloads:
        prefix = workload.service.env_prefix
        given = made._given(workload)
        command = service.serve(workload, given)
        assert "hostile" not in command.env.values()
        files = {f"{prefix}{name}" for name in service.in_files(workload.service)}
        own = {name for name in command.env if name.startswith(prefix)} - given.asked.keys()
        assert len(own) > 5
        for name in own | files | {name.partition("__")[0] for name in own} | {"PYTHONPATH"}:
            for written in (name, name.lower()):
                with pytest.raises(UsageError, match=f"{written} cannot be set"):
                    processes(**{written: "hostile"})


def test_a_topology_cannot_set_what_the_mesh_gives(described, processes):
    described.services["items"].env["DATABASE_URL"] = "sqlite+aiosqlite:///elsewhere.db"
    with pytest.raises(UsageError, match="ITEMS_DATABASE_URL cannot be set: it is what the mesh itself gives items"):
        processes()


def test_a_secret_nobody_expects_is_not_written(described, make_workloads, tmp_path):
    (items, *_) = make_workloads()
    with pytest.raises(ValueError, match="NEW_URL"):
        service.write_setting(items, tmp_path, "NEW_URL", "…")


def test_settings_of_services_are_not_looked_for_in_the_environment(described):
    environment.check_settings(["PATH", "ITEM_COUNT", "AUTHORITY"], described)
    with pytest.raises(UsageError, match=r"AUTH_TOKEN, items_relay are set, .* say --env AUTH_TOKEN --env items_relay"):
        environment.check_settings(["items_relay", "AUTH_TOKEN"], described)
