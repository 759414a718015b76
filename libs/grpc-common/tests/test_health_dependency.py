"""What is believed of a dependency after a row of answers, and what is said of a failure."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_common.health.check import DependencyCheck, checks_of
from grpc_common.health.dependency import Dependency
from grpc_common.health.reason import MAX_LENGTH, reason_of
from grpc_common.health.report import DependencyState

UP, DOWN, UNKNOWN = DependencyState.UP, DependencyState.DOWN, DependencyState.UNKNOWN


async def answers() -> bool:
    return True


def a_check(**changes) -> DependencyCheck:
    return DependencyCheck(**{"name": "db", "probe": answers, **changes})


def states_by_the_book(events, failures_to_down, successes_to_up, stale_after):
    """Return the state at each (time, answer); an answer of None only looks."""
    state, row, last = UNKNOWN, [], 0
    for now, answer in events:
        if state is UP and now - last >= stale_after:
            state, row = DOWN, []
        if answer is not None:
            last = now
            row = [*row, answer] if row and row[-1] == answer else [answer]
            needed = 1 if state is UNKNOWN else successes_to_up if answer else failures_to_down
            if len(row) >= needed:
                state = UP if answer else DOWN
        yield state


@settings(max_examples=300, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 12), st.sampled_from([True, False, None])), min_size=15, max_size=40),
    failures_to_down=st.integers(1, 4),
    successes_to_up=st.integers(1, 4),
)
def test_hysteresis_and_staleness_whoever_looks_and_whenever(steps, failures_to_down, successes_to_up):
    changes = []
    check = a_check(
        interval=1, timeout=1, stale_after=10, failures_to_down=failures_to_down, successes_to_up=successes_to_up
    )
    dependency = Dependency(check, 0, lambda *change: changes.append(change))
    now, events = 0, []
    for wait, answer in steps:
        now += wait
        events.append((now, answer))
    seen = []
    for at, answer in events:
        if answer is None:
            dependency.expire(at)
        elif answer:
            dependency.succeeded(at, 0.1)
        else:
            dependency.failed(at, "no", 0.1)
        seen.append(dependency.state)
    assert seen == list(states_by_the_book(events, failures_to_down, successes_to_up, 10))
    assert [before for before, *_ in changes[1:]] == [after for _, after, *_ in changes[:-1]]
    assert all(before is not after for before, after, *_ in changes)


def test_an_old_answer_is_worth_nothing_and_says_so():
    dependency = Dependency(a_check(), 100, lambda *change: None)
    dependency.succeeded(101, 0.004)
    dependency.expire(130.9)
    assert dependency.state is UP
    dependency.expire(500)
    health = dependency.health(501)
    assert (health.state, health.since, health.last_ok_age) == (DOWN, 131, 400)
    assert health.reason == "no answer for 30 s"
    assert health.latency_ms == pytest.approx(4)


def test_health_tells_failures_before_they_take_it_down():
    dependency = Dependency(a_check(), 0, lambda *change: None)
    dependency.succeeded(1, 0.001)
    dependency.failed(2, "OSError: gone", 0.5)
    health = dependency.health(3)
    assert (health.state, health.consecutive_failures, health.reason) == (UP, 1, "OSError: gone")
    dependency.succeeded(4, 0.001)
    assert dependency.health(4).reason == ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "needs a name"),
        ({"interval": 0}, "interval must be more than 0"),
        ({"timeout": -1}, "timeout must be more than 0"),
        ({"failures_to_down": 0}, "failures_to_down must be at least 1"),
        ({"successes_to_up": 0}, "successes_to_up must be at least 1"),
        ({"interval": 60}, "stale_after (30 s) must be longer than an interval and a timeout together (68 s)"),
    ],
)
def test_a_check_that_cannot_work_is_refused(changes, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        a_check(**changes)


def test_a_bare_probe_is_a_critical_check():
    (check,) = checks_of({"db": answers})
    assert (check.name, check.probe, check.critical) == ("db", answers, True)


def test_checks_may_be_given_by_name_or_alone():
    check = a_check(critical=False)
    assert checks_of({"db": check}) == checks_of([check]) == (check,)


@pytest.mark.parametrize("given", [{"cache": a_check()}, [a_check(), a_check()]])
def test_a_name_means_one_check(given):
    with pytest.raises(ValueError, match="db"):
        checks_of(given)


SECRET = "hunter2-Xyz"


@pytest.mark.parametrize(
    "text",
    [
        f"could not connect to postgresql+asyncpg://items:{SECRET}@db:5432/items",
        f"redis://:{SECRET}@cache:6379/0 refused",
        f"amqp://u:p@ss{SECRET}@host",
        f"dsn: host=db user=items password={SECRET} dbname=items",
        f"config {{'db_password': '{SECRET}', 'port': 1}}",
        f'{{"client_secret": "{SECRET}"}}',
        f"Authorization: Bearer {SECRET}",
        f"X_VAULT_TOKEN={SECRET}",
    ],
)
def test_a_reason_keeps_no_secret(text):
    assert SECRET not in reason_of(ConnectionError(text))


def test_a_reason_is_one_short_line():
    reason = reason_of(RuntimeError("broken\n  and long " + "x" * 5000))
    assert reason.startswith("RuntimeError: broken and long xxx")
    assert len(reason) == MAX_LENGTH
    assert "\n" not in reason


def test_a_reason_of_an_error_that_cannot_be_told():
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert reason_of(MuteError()).endswith("MuteError")
