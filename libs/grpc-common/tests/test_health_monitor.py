"""Probing in the background, in virtual time: a sleep takes no time and a minute passes exactly."""

import asyncio
import selectors
import time

import pytest
import structlog
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_common.health.check import DependencyCheck
from grpc_common.health.loop_lag import LoopLag
from grpc_common.health.monitor import HealthMonitor
from grpc_common.health.report import DependencyState, Health, StateChange
from grpc_common.health.servicer import HealthServicer

UP, DOWN, UNKNOWN = DependencyState.UP, DependencyState.DOWN, DependencyState.UNKNOWN


class JumpingSelector(selectors.DefaultSelector):
    """Where others would wait, moves the loop's time on."""

    loop: "VirtualLoop"

    def select(self, timeout=None):
        events = super().select(0)
        if not events:
            assert timeout is not None, "everything waits for something that nothing brings about"
            self.loop.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is a number."""

    def __init__(self) -> None:
        self.now = 1000.0
        selector = JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def in_virtual_time(scenario):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        began = time.monotonic()
        result = runner.run(scenario)
        assert time.monotonic() - began < 30
        return result


def now() -> float:
    return asyncio.get_running_loop().time()


def others() -> set[asyncio.Task]:
    return asyncio.all_tasks() - {asyncio.current_task()}


class Scripted:
    """A dependency that behaves as scripted, one entry a probe, the last one for ever; keeps what it answered, when."""

    def __init__(self, *script, timeout=2.0, takes=0.0) -> None:
        self.script = list(script)
        self.timeout = timeout
        self.takes = takes
        self.answers: list[tuple[float, bool]] = []
        self.began: list[float] = []
        self.running = 0
        self.most_running = 0

    async def __call__(self) -> bool:
        act = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        self.began.append(now())
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            return await self.play(act)
        finally:
            self.running -= 1

    async def play(self, act) -> bool:
        if act == "hang":
            self.answers.append((now() + self.timeout, False))
            await asyncio.Event().wait()
        await asyncio.sleep(self.takes)
        self.answers.append((now(), act is True))
        if isinstance(act, BaseException):
            raise act
        return act


class Became(asyncio.Event):
    """Set once a dependency has come into a state."""

    def __init__(self, state: DependencyState) -> None:
        super().__init__()
        self.state = state

    def __call__(self, change: StateChange) -> None:
        if change.after is self.state:
            self.set()


def monitor_of(*checks, **options) -> HealthMonitor:
    return HealthMonitor(checks, clock=now, jitter=lambda: 0.5, **options)


def a_check(probe, **changes) -> DependencyCheck:
    return DependencyCheck(**{"name": "db", "probe": probe, **changes})


def up_by_the_book(answers, failures_to_down, successes_to_up, at):
    """Fold the answers given until `at`."""
    up, row = None, []
    for when, answer in answers:
        if when > at:
            break
        row = [*row, answer] if row[-1:] == [answer] else [answer]
        needed = 1 if up is None else successes_to_up if answer else failures_to_down
        if len(row) >= needed:
            up = answer
    return bool(up)


ACTS = st.sampled_from([True, False, "hang", "raise", "cancel", "exit"])
ERRORS = {"raise": lambda: OSError("gone"), "cancel": asyncio.CancelledError, "exit": lambda: SystemExit(1)}
DEPENDENCIES = st.lists(
    st.fixed_dictionaries(
        {
            "critical": st.booleans(),
            "script": st.lists(ACTS, min_size=1, max_size=12),
            "failures_to_down": st.integers(1, 4),
            "successes_to_up": st.integers(1, 4),
            "takes": st.sampled_from([0.0, 0.3, 1.9]),
        }
    ),
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(dependencies=DEPENDENCIES)
def test_serving_exactly_while_all_critical_dependencies_are_up(dependencies):
    """**Feature: grpc-microservices-support, Property 6: Health Check Status Consistency**"""
    in_virtual_time(status_follows(dependencies))


async def status_follows(dependencies):
    probes, checks = [], []
    for number, each in enumerate(dependencies):
        script = [ERRORS[act]() if act in ERRORS else act for act in each["script"]]
        probe = Scripted(*script, takes=each["takes"])
        thresholds = {key: each[key] for key in ("critical", "failures_to_down", "successes_to_up")}
        probes.append(probe)
        checks.append(DependencyCheck(name=f"d{number}", probe=probe, interval=5, timeout=2, **thresholds))
    health = HealthServicer(checks, services=["a.A"], clock=now, jitter=lambda: 0.5)
    async with health:
        for _ in range(600):
            await asyncio.sleep(0.1371)
            at = now()
            if any(abs(when - at) < 0.001 for probe in probes for when, _ in probe.answers):
                continue
            ups = [
                up_by_the_book(probe.answers, check.failures_to_down, check.successes_to_up, at)
                for probe, check in zip(probes, checks, strict=True)
            ]
            serving = all(up for up, check in zip(ups, checks, strict=True) if check.critical)
            expected = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
            for service in ("", "a.A"):
                assert (await health.Check(HealthCheckRequest(service=service), None)).status == expected
            report = health.report()
            assert [each.state is UP for each in report.dependencies] == ups
            assert (report.health is not Health.NOT_SERVING) == serving
            degraded = serving and any(each.state is DOWN for each in report.dependencies)
            assert (report.health is Health.DEGRADED) == degraded
    assert not others()
    assert all(probe.most_running <= 1 for probe in probes)
    assert all(len(probe.began) > 5 for probe in probes)


def test_nothing_serves_before_every_critical_dependency_has_answered():
    async def scenario():
        monitor = monitor_of(
            a_check(Scripted(True, takes=1.0)),
            a_check(Scripted(True, takes=1.5), name="vault"),
            a_check(Scripted("hang"), name="cache", critical=False),
        )
        assert monitor.health is Health.NOT_SERVING
        async with monitor:
            await asyncio.sleep(1.4)
            assert monitor.health is Health.NOT_SERVING
            assert [each.state for each in monitor.report().dependencies] == [UP, UNKNOWN, UNKNOWN]
            await asyncio.sleep(0.2)
            assert monitor.health is Health.SERVING
            await asyncio.sleep(1)
            assert monitor.health is Health.DEGRADED

    in_virtual_time(scenario())


def test_a_dependency_that_comes_late_is_found_soon():
    async def scenario():
        probe, up = Scripted(False, False, False, True), Became(UP)
        async with monitor_of(a_check(probe, interval=20, stale_after=60), on_change=up) as monitor:
            await up.wait()
            assert monitor.health is Health.SERVING
            assert now() - 1000 < 5

    in_virtual_time(scenario())


def test_a_dependency_that_stays_away_is_not_hammered():
    async def scenario():
        probe = Scripted(ConnectionRefusedError())
        async with monitor_of(a_check(probe, interval=5)):
            await asyncio.sleep(600)
        assert len(probe.began) < 130

    in_virtual_time(scenario())


def test_intervals_are_spread_by_a_tenth():
    async def scenario():
        gaps = []
        for jitter in (0.0, 1.0):
            probe = Scripted(True)
            async with HealthMonitor([a_check(probe)], clock=now, jitter=lambda jitter=jitter: jitter):
                await asyncio.sleep(30)
            gaps.append(probe.began[2] - probe.began[1])
        assert gaps == pytest.approx([4.5, 5.5])

    in_virtual_time(scenario())


def test_a_probe_that_hangs_counts_as_failed_and_holds_up_no_other():
    async def scenario():
        hanging, good = Scripted(True, "hang"), Scripted(True)
        async with monitor_of(a_check(hanging, failures_to_down=2), a_check(good, name="vault")) as monitor:
            await asyncio.sleep(0.1)
            assert monitor.health is Health.SERVING
            await asyncio.sleep(20)
            report = monitor.report()
            assert report.health is Health.NOT_SERVING
            assert [each.state for each in report.dependencies] == [DOWN, UP]
            assert report.dependencies[0].reason == "TimeoutError: no answer within 2 s"
            assert len(good.began) >= 4
        assert not others()

    in_virtual_time(scenario())


def test_a_probe_that_refuses_to_be_cancelled_counts_on_and_runs_once():
    async def scenario():
        release = asyncio.Event()
        running = 0

        async def deaf() -> bool:
            nonlocal running
            running += 1
            assert running == 1
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue
            running -= 1
            return True

        async with monitor_of(a_check(deaf)) as monitor:
            await asyncio.sleep(40)
            (dependency,) = monitor.report().dependencies
            assert dependency.state is DOWN
            assert dependency.consecutive_failures > 3
            release.set()
            await asyncio.sleep(10)
            assert monitor.health is Health.SERVING
            release.clear()
            await asyncio.sleep(10)
            began = now()
            with structlog.testing.capture_logs() as logs:
                await monitor.stop()
            assert now() - began <= 1
            assert [(line["event"], line["probe"]) for line in logs] == [
                ("health probe ignores cancellation", "health probe db")
            ]
            release.set()
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not others()

    in_virtual_time(scenario())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (asyncio.CancelledError("mine"), "CancelledError: mine"),
        (SystemExit(3), "SystemExit: 3"),
        (GeneratorExit(), "GeneratorExit"),
        (
            BaseExceptionGroup("two", [OSError("a"), asyncio.CancelledError()]),
            "BaseExceptionGroup: two (2 sub-exceptions)",
        ),
        (
            OSError("connect to postgresql://items:hunter2@db/items"),
            "OSError: connect to postgresql://items:[redacted]@db/items",
        ),
    ],
)
def test_nothing_a_probe_raises_ends_the_checks(error, reason):
    async def scenario():
        probe, down = Scripted(True, error, error, error, True), Became(DOWN)
        async with monitor_of(a_check(probe), on_change=down) as monitor:
            await down.wait()
            assert monitor.health is Health.NOT_SERVING
            assert monitor.report().dependencies[0].reason == reason
            await asyncio.sleep(10)
            assert monitor.health is Health.SERVING

    in_virtual_time(scenario())


def test_a_probe_that_is_no_coroutine_says_what_is_wrong():
    async def scenario():
        async with monitor_of(a_check(lambda: True)) as monitor:
            await asyncio.sleep(1)
            assert monitor.report().dependencies[0].reason.startswith("TypeError:")

    in_virtual_time(scenario())


def test_one_failure_now_and_then_changes_nothing():
    async def scenario():
        changes = []
        probe = Scripted(*([True, True, False, False] * 20), True)
        async with monitor_of(a_check(probe), on_change=changes.append) as monitor:
            for _ in range(1000):
                await asyncio.sleep(0.3)
                assert monitor.health is Health.SERVING
        assert [(change.before, change.after) for change in changes] == [(UNKNOWN, UP)]

    in_virtual_time(scenario())


def test_each_change_is_told_and_logged_once():
    async def scenario():
        changes = []
        script = [True] + [OSError("gone")] * 5 + [True]
        with structlog.testing.capture_logs() as logs:
            async with monitor_of(a_check(Scripted(*script)), on_change=changes.append) as monitor:
                await asyncio.sleep(60)
                assert monitor.health is Health.SERVING
        told = [(change.name, change.after, change.reason, change.health) for change in changes]
        assert told == [
            ("db", UP, "", Health.SERVING),
            ("db", DOWN, "OSError: gone", Health.NOT_SERVING),
            ("db", UP, "", Health.SERVING),
        ]
        events = [(line["event"], line["log_level"]) for line in logs]
        assert events == [
            ("dependency is up", "info"),
            ("health changed", "info"),
            ("dependency is down", "warning"),
            ("health changed", "info"),
            ("dependency is up", "info"),
            ("health changed", "info"),
        ]
        assert logs[2]["reason"] == "OSError: gone"

    in_virtual_time(scenario())


def test_who_listens_cannot_stop_the_checks():
    async def scenario():
        def listen(change):
            raise RuntimeError("listener")

        with structlog.testing.capture_logs() as logs:
            async with monitor_of(a_check(Scripted(True, False)), on_change=listen) as monitor:
                await asyncio.sleep(1)
                assert monitor.health is Health.SERVING
                await asyncio.sleep(30)
                assert monitor.health is Health.NOT_SERVING
        assert [line["event"] for line in logs].count("on_change failed") == 2

    in_virtual_time(scenario())


def test_health_fails_when_nobody_probes_any_more():
    async def scenario():
        health = HealthServicer({"db": Scripted(True)}, clock=now)
        await health.start()
        await asyncio.sleep(1)
        await health._monitor.stop()
        check = HealthCheckRequest()
        assert (await health.Check(check, None)).status == HealthCheckResponse.SERVING
        await asyncio.sleep(31)
        assert (await health.Check(check, None)).status == HealthCheckResponse.NOT_SERVING
        assert health.report().dependencies[0].reason == "no answer for 30 s"

    in_virtual_time(scenario())


def test_a_monitor_that_fails_says_so_and_does_not_stay_green():
    async def scenario():
        rolls = iter([0.5, 0.5])
        with structlog.testing.capture_logs() as logs:
            async with HealthMonitor([a_check(Scripted(True))], clock=now, jitter=lambda: next(rolls)) as monitor:
                await asyncio.sleep(1)
                assert monitor.health is Health.SERVING
                await asyncio.sleep(20)
                assert monitor.health is Health.NOT_SERVING
                assert monitor.report().dependencies[0].reason == "the health monitor has failed"
        assert "health monitor failed" in [line["event"] for line in logs]

    in_virtual_time(scenario())


def test_stopping_in_the_middle_of_probes_leaves_nothing_behind():
    async def scenario():
        cleaned = []

        async def slow() -> bool:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(0.1)
                cleaned.append(True)
            return True

        monitor = monitor_of(*(a_check(slow, name=f"d{number}") for number in range(5)))
        await monitor.start()
        await asyncio.sleep(0.5)
        await monitor.stop()
        assert not others()
        assert len(cleaned) == 5
        await monitor.stop()

    in_virtual_time(scenario())


def test_starting_twice_probes_once():
    async def scenario():
        probe = Scripted(True)
        async with monitor_of(a_check(probe)) as monitor:
            await monitor.start()
            await asyncio.sleep(1)
            assert len(probe.began) == 1

    in_virtual_time(scenario())


def test_latency_and_ages_are_reported():
    async def scenario():
        async with monitor_of(a_check(Scripted(True, takes=0.25))) as monitor:
            await asyncio.sleep(1.25)
            report = monitor.report()
            (dependency,) = report.dependencies
            assert dependency.latency_ms == pytest.approx(250)
            assert dependency.last_ok_age == pytest.approx(1)
            assert report.at - dependency.since == pytest.approx(1)

    in_virtual_time(scenario())


def test_an_idle_loop_has_no_lag():
    async def scenario():
        lag = LoopLag(clock=now)
        assert await lag.probe()
        assert lag.latest == pytest.approx(0, abs=1e-6)

    in_virtual_time(scenario())


async def block(seconds: float, every: float) -> None:
    """Keep the loop busy: its time goes on and nobody gets a turn."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(every)
        loop.now += seconds


def test_a_loop_that_is_always_late_degrades_and_recovers():
    async def scenario():
        lag = LoopLag(clock=now)
        async with monitor_of(lag.check()) as monitor:
            await asyncio.sleep(2)
            assert monitor.health is Health.SERVING
            blocking = asyncio.create_task(block(0.4, every=0.01))
            await asyncio.sleep(30)
            report = monitor.report()
            assert report.health is Health.DEGRADED
            assert report.dependencies[0].name == "event-loop"
            assert report.dependencies[0].reason.startswith("EventLoopLagError: ")
            assert lag.latest is not None
            assert lag.latest > 0.25
            blocking.cancel()
            await asyncio.sleep(30)
            assert monitor.health is Health.SERVING

    in_virtual_time(scenario())


def test_a_single_hiccup_is_no_lag():
    async def scenario():
        lag = LoopLag(clock=now)
        probe = asyncio.create_task(lag.probe())
        await asyncio.sleep(0.12)
        asyncio.get_running_loop().now += 3
        assert await probe

    in_virtual_time(scenario())


def test_loop_lag_can_be_critical():
    async def scenario():
        lag = LoopLag(clock=now)
        async with monitor_of(lag.check(critical=True)) as monitor:
            blocking = asyncio.create_task(block(0.4, every=0.01))
            await asyncio.sleep(30)
            assert monitor.health is Health.NOT_SERVING
            blocking.cancel()

    in_virtual_time(scenario())


def test_loop_lag_needs_a_threshold():
    with pytest.raises(ValueError, match="threshold"):
        LoopLag(threshold=0)
