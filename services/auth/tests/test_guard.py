"""The login guard in memory, in a real Valkey, and in both: one contract, held against a plain model."""

import asyncio
import os
import secrets
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretBytes, SecretStr
from redis.asyncio import Redis

from auth import memory_guard
from auth.guard import Attempt, LoginGuard
from auth.guard_limits import DAY, HOUR, GuardLimits
from auth.memory_guard import MemoryGuard
from auth.open_guard import DegradingGuard, open_guard
from auth.valkey_guard import ValkeyGuard
from grpc_common.errors import RateLimitError
from grpc_common.fixed_clock import FixedClock
from grpc_common.interceptors import rate_limit
from grpc_common.valkey_link import open_link
from localmesh.parts.valkey import SUPERUSER, Valkey

type Make = Callable[[GuardLimits, Callable[[], float]], LoginGuard]

LIMITS = GuardLimits(failures=3, pause=30, longest_pause=100, forgotten=1000, known=5000, address_burst=1000)
ADA = Attempt("ada", "192.0.2.1")
MALLORY = Attempt("ada", "198.51.100.7")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path_factory.mktemp("valkey"), users=["auth"]) as server:
        yield server


@pytest_asyncio.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    """One that a test may kill."""
    async with Valkey(tmp_path / "valkey", users=["auth"]) as server:
        yield server


@asynccontextmanager
async def making(valkey: Valkey) -> AsyncIterator[Callable[[str], Make]]:
    """Makes guards of each kind; with another secret each, those in Valkey have nothing to do with each other."""
    async with open_link(valkey.url("auth"), connections=20, timeout=20, component="guard") as link:

        def shared(limits: GuardLimits, clock: Callable[[], float]) -> LoginGuard:
            return ValkeyGuard(link, limits, secret=SecretBytes(secrets.token_bytes(32)), clock=clock)

        def degrading(limits: GuardLimits, clock: Callable[[], float]) -> LoginGuard:
            return DegradingGuard(shared(limits, clock), MemoryGuard(limits, clock))

        kinds: dict[str, Make] = {"memory": MemoryGuard, "valkey": shared, "degrading": degrading}
        yield kinds.__getitem__


KINDS = pytest.mark.parametrize("kind", ["memory", "valkey", "degrading"])


@pytest_asyncio.fixture(params=["memory", "valkey", "degrading"])
async def make(request: pytest.FixtureRequest, valkey: Valkey) -> AsyncIterator[Make]:
    async with making(valkey) as kinds:
        yield kinds(request.param)


@pytest.fixture
def guard(make: Make, clock: FixedClock) -> LoginGuard:
    return make(LIMITS, clock)


async def fail(guard: LoginGuard, attempt: Attempt, times: int = 1) -> None:
    for _ in range(times):
        assert await guard.enter(attempt)
        await guard.failed(attempt)


# What an account has


async def test_the_pauses_of_an_account_double_up_to_the_longest(guard: LoginGuard, clock: FixedClock) -> None:
    await fail(guard, ADA, 3)
    for pause in (30, 60, 100, 100):
        assert not await guard.enter(ADA)
        clock.advance(pause - 0.001)
        assert not await guard.enter(ADA)
        clock.advance(0.001)
        await fail(guard, ADA)


async def test_tries_while_it_is_locked_do_not_lock_it_for_longer(guard: LoginGuard, clock: FixedClock) -> None:
    await fail(guard, ADA, 3)
    for _ in range(30):
        assert not await guard.enter(ADA)
        await guard.failed(ADA)  # nobody should tell it, and it does no harm
        clock.advance(1)
    assert await guard.enter(ADA)


async def test_a_right_password_makes_up_for_the_wrong_ones(guard: LoginGuard) -> None:
    for _ in range(5):
        await fail(guard, ADA, 2)
        assert await guard.enter(ADA)
        await guard.succeeded(ADA)


async def test_what_was_long_ago_is_forgotten(guard: LoginGuard, clock: FixedClock) -> None:
    await fail(guard, ADA, 3)
    clock.advance(999.999)
    await fail(guard, ADA)
    assert not await guard.enter(ADA)
    clock.advance(1000)
    await fail(guard, ADA, 3)


async def test_an_account_says_nothing_of_another(guard: LoginGuard) -> None:
    await fail(guard, ADA, 3)
    assert await guard.enter(replace(ADA, account="grace"))


async def test_what_nobody_looked_at_does_not_count(guard: LoginGuard) -> None:
    for _ in range(10):
        assert await guard.enter(ADA)
        await guard.undecided(ADA)
    await fail(guard, ADA, 3)
    assert not await guard.enter(ADA)


async def test_what_nobody_looked_at_leaves_a_locked_account_locked(guard: LoginGuard, clock: FixedClock) -> None:
    await fail(guard, ADA, 3)
    clock.advance(30)
    assert await guard.enter(ADA)
    await guard.undecided(ADA)
    assert not await guard.enter(ADA)
    clock.advance(30)
    await fail(guard, ADA)


async def test_a_try_that_nobody_judged_counts(guard: LoginGuard, clock: FixedClock) -> None:
    for _ in range(3):
        assert await guard.enter(ADA)
    with pytest.raises(RateLimitError, match="to this account at once"):
        await guard.enter(ADA)
    clock.advance(30)
    assert await guard.enter(ADA)
    with pytest.raises(RateLimitError):
        await guard.enter(ADA)


# The rightful user


async def test_who_logged_in_from_there_before_is_not_locked_out_from_elsewhere(
    guard: LoginGuard, clock: FixedClock
) -> None:
    assert await guard.enter(ADA)
    await guard.succeeded(ADA)
    for _ in range(40):  # somebody keeps the account locked for an hour
        while await guard.enter(MALLORY):
            await guard.failed(MALLORY)
        assert await guard.enter(ADA)
        await guard.succeeded(ADA)
        clock.advance(100)


async def test_a_right_password_at_home_gives_no_tries_elsewhere(guard: LoginGuard) -> None:
    assert await guard.enter(ADA)
    await guard.succeeded(ADA)
    await fail(guard, MALLORY, 3)
    assert await guard.enter(ADA)
    await guard.succeeded(ADA)
    assert not await guard.enter(MALLORY)


async def test_an_address_of_the_account_is_locked_by_itself(guard: LoginGuard) -> None:
    assert await guard.enter(ADA)
    await guard.succeeded(ADA)
    await fail(guard, ADA, 3)
    assert not await guard.enter(ADA)
    assert await guard.enter(MALLORY)


async def test_an_address_is_the_accounts_own_for_a_time(guard: LoginGuard, clock: FixedClock) -> None:
    assert await guard.enter(ADA)
    await guard.succeeded(ADA)
    clock.advance(4990)
    await fail(guard, MALLORY, 3)
    assert await guard.enter(ADA)
    clock.advance(10)
    assert not await guard.enter(ADA)


async def test_where_a_session_was_carried_on_the_account_is_at_home(guard: LoginGuard, clock: FixedClock) -> None:
    await guard.recognised(ADA)
    await fail(guard, MALLORY, 3)
    assert not await guard.enter(MALLORY)
    assert await guard.enter(ADA)
    await guard.failed(ADA)
    clock.advance(5000)
    assert await guard.enter(ADA)
    clock.advance(5000)
    await guard.recognised(replace(ADA, address=""))
    await fail(guard, replace(ADA, address=""), 3)
    assert not await guard.enter(MALLORY)


async def test_who_is_in_a_session_is_counted_by_it_wherever_others_try(guard: LoginGuard, clock: FixedClock) -> None:
    mine, other = replace(ADA, session="s-1"), replace(ADA, session="s-2")
    await fail(guard, MALLORY, 3)
    assert not await guard.enter(ADA)
    await fail(guard, mine, 3)
    assert not await guard.enter(mine)
    assert not await guard.enter(replace(mine, address=MALLORY.address))
    await fail(guard, other, 2)
    assert await guard.enter(other)
    await guard.succeeded(other)
    assert not await guard.enter(mine)
    assert not await guard.enter(MALLORY)
    assert await guard.enter(ADA)  # where that session has given the right password


async def test_an_address_nobody_knows_is_nobodys_own(guard: LoginGuard) -> None:
    somewhere = replace(ADA, address="")
    assert await guard.enter(somewhere)
    await guard.succeeded(somewhere)
    await fail(guard, MALLORY, 3)
    assert not await guard.enter(somewhere)


# What an address has


async def test_an_address_has_a_burst_and_then_a_rate(make: Make, clock: FixedClock) -> None:
    guard = make(replace(LIMITS, address_rate=0.5, address_burst=4), clock)
    for number in range(4):
        await fail(guard, Attempt(f"user-{number}", "192.0.2.1"))
    for _ in range(5):
        with pytest.raises(RateLimitError, match="from this address") as caught:
            await guard.enter(ADA)
        assert caught.value.retry_after == 2.0
        clock.advance(2.0)
        await fail(guard, replace(ADA, account=f"{clock.now}"))
    assert await guard.enter(MALLORY)


async def test_who_is_held_up_by_the_address_has_not_tried_the_account(make: Make, clock: FixedClock) -> None:
    guard = make(replace(LIMITS, address_rate=1, address_burst=1), clock)
    assert await guard.enter(Attempt("grace", MALLORY.address))
    for _ in range(10):
        with pytest.raises(RateLimitError):
            await guard.enter(MALLORY)
    await fail(guard, ADA)
    await fail(guard, replace(ADA, address="192.0.2.2"))
    await fail(guard, replace(ADA, address="192.0.2.3"))
    assert not await guard.enter(replace(ADA, address="192.0.2.4"))


async def test_who_is_at_home_or_in_a_session_is_not_held_up_by_the_address(make: Make, clock: FixedClock) -> None:
    guard = make(replace(LIMITS, failures=5, address_rate=0.001, address_burst=2), clock)
    await guard.recognised(ADA)
    await fail(guard, Attempt("one", ADA.address))
    await fail(guard, Attempt("two", ADA.address))
    grace = Attempt("grace", ADA.address)
    with pytest.raises(RateLimitError):
        await guard.enter(grace)

    await fail(guard, ADA, 3)
    await fail(guard, replace(grace, session="s-1"), 3)


async def test_nobody_gets_tries_at_others_by_logging_in_where_one_is_at_home(make: Make, clock: FixedClock) -> None:
    guard = make(replace(LIMITS, address_rate=0.001, address_burst=2), clock)
    mine = Attempt("mallory", "192.0.2.1")
    for _ in range(2):
        assert await guard.enter(mine)
        await guard.succeeded(mine)
    tries = 0
    for number in range(20):
        for own in (mine, replace(mine, session="s-1")):
            assert await guard.enter(own)
            await guard.succeeded(own)
            assert await guard.enter(own)
            await guard.undecided(own)
        tries += await entered(guard, Attempt(f"user-{number}", mine.address)) == "open"
    assert tries == 2


async def test_clients_and_users_do_not_hold_each_other_up(make: Make, clock: FixedClock) -> None:
    guard = make(replace(LIMITS, address_rate=0.001, address_burst=2), clock)
    client, user = Attempt("", "192.0.2.1"), Attempt("ada", "192.0.2.1")
    await fail(guard, client, 2)
    with pytest.raises(RateLimitError):
        await guard.enter(client)
    await fail(guard, user, 2)
    with pytest.raises(RateLimitError):
        await guard.enter(user)


async def test_right_passwords_cost_an_address_nothing(make: Make, clock: FixedClock) -> None:
    guard = make(replace(LIMITS, address_rate=0.001, address_burst=2), clock)
    for number in range(20):
        attempt = Attempt(f"user-{number}", "192.0.2.1")
        assert await guard.enter(attempt)
        await guard.succeeded(attempt)


async def test_without_an_account_the_address_alone_counts(make: Make, clock: FixedClock) -> None:
    guard = make(replace(LIMITS, address_rate=1, address_burst=5), clock)
    attempt = Attempt("", "192.0.2.1")
    await fail(guard, attempt, 5)
    with pytest.raises(RateLimitError):
        await guard.enter(attempt)
    await fail(guard, Attempt("", "192.0.2.2"), 5)


async def test_addresses_nobody_knows_are_not_one_address(make: Make, clock: FixedClock) -> None:
    guard = make(replace(LIMITS, address_rate=1, address_burst=1), clock)
    for number in range(10):
        await fail(guard, Attempt(f"user-{number}", ""))


# Whatever happens


@dataclass
class Model:
    """What is asked of a guard, with everything kept that ever happened."""

    limits: GuardLimits
    wrong: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """When the tries in a row began, by account, or account and address."""
    unjudged: set[str] = field(default_factory=set)
    known: dict[str, float] = field(default_factory=dict)
    bucket: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    """What was taken from a bucket, and given back to it."""

    def tokens(self, address: str, now: float) -> float:
        level, last = float(self.limits.address_burst), 0.0
        for when, change in [*self.bucket[address], (now, 0)]:
            if change <= 0:
                level = min(self.limits.address_burst, level + (when - last) * self.limits.address_rate)
                last = when
            level = min(self.limits.address_burst, level + change)
        return level

    def scope(self, attempt: Attempt, now: float) -> str:
        if attempt.session:
            return f"{attempt.account} in {attempt.session}"
        return f"{attempt.account} {attempt.address}" if self.at_home(attempt, now) else attempt.account

    def at_home(self, attempt: Attempt, now: float) -> bool:
        return self.known.get(f"{attempt.account} {attempt.address}", 0) > now

    def counts(self, attempt: Attempt, now: float) -> bool:
        return bool(attempt.address) and not attempt.session and not self.at_home(attempt, now)

    def change(self, attempt: Attempt, now: float, by: int) -> None:
        if self.counts(attempt, now):
            self.bucket[attempt.address].append((now, by))

    def tries(self, scope: str, now: float) -> list[float]:
        if self.wrong[scope] and now >= self.wrong[scope][-1] + self.limits.forgotten:
            self.wrong[scope] = []
        return self.wrong[scope]

    def enter(self, attempt: Attempt, now: float) -> str:
        if self.counts(attempt, now) and self.tokens(attempt.address, now) < 1:
            return "address"
        self.change(attempt, now, -1)
        scope = self.scope(attempt, now)
        tries = self.tries(scope, now)
        over = len(tries) - self.limits.failures
        if over >= 0 and now < tries[-1] + min(self.limits.longest_pause, self.limits.pause * 2**over):
            if scope not in self.unjudged:
                return "locked"
            self.change(attempt, now, 1)
            return "busy"
        tries.append(now)
        self.unjudged.add(scope)
        return "open"

    def failed(self, attempt: Attempt, now: float) -> None:
        scope = self.scope(attempt, now)
        if len(self.tries(scope, now)) >= self.limits.failures:
            self.unjudged.discard(scope)

    def succeeded(self, attempt: Attempt, now: float) -> None:
        self.wrong[self.scope(attempt, now)] = []
        self.change(attempt, now, 1)
        self.recognised(attempt, now)

    def recognised(self, attempt: Attempt, now: float) -> None:
        if attempt.address:
            self.known[f"{attempt.account} {attempt.address}"] = now + self.limits.known

    def undecided(self, attempt: Attempt, now: float) -> None:
        self.change(attempt, now, 1)
        scope = self.scope(attempt, now)
        tries = self.tries(scope, now)
        if tries:
            # The try before it is as long ago as the one that does not count.
            last = tries.pop()
            if tries:
                tries[-1] = last
            self.unjudged.discard(scope)


# Numbers that a float has without rounding, so that both reckon the same.
LIMITS_OF_ALL_KINDS = st.builds(
    GuardLimits,
    failures=st.integers(1, 4),
    pause=st.sampled_from([0.5, 8.0]),
    longest_pause=st.sampled_from([8.0, 20.0]),
    forgotten=st.sampled_from([24.0, 64.0]),
    known=st.sampled_from([16.0, 128.0]),
    address_rate=st.sampled_from([0.25, 1.0, 4.0]),
    address_burst=st.integers(1, 6),
)
ATTEMPTS = st.builds(
    Attempt,
    st.sampled_from(["ada", "grace"]),
    st.sampled_from(["", "192.0.2.1", "192.0.2.2"]),
    st.sampled_from(["", "", "", "s-1"]),
)
STEPS = st.one_of(
    st.tuples(st.just("enter"), ATTEMPTS),
    st.tuples(st.just("recognised"), ATTEMPTS),
    st.tuples(st.sampled_from(["failed", "succeeded", "undecided"]), st.integers(0, 9)),
    st.tuples(st.just("failed"), st.just(0)),
    st.tuples(st.just("pass"), st.sampled_from([0.25, 0.5, 1.0, 4.0, 8.0, 16.0, 20.0, 24.0, 64.0, 128.0])),
)


async def entered(guard: LoginGuard, attempt: Attempt) -> str:
    try:
        return "open" if await guard.enter(attempt) else "locked"
    except RateLimitError as error:
        return "address" if "address" in error.message else "busy"


@KINDS
@settings(max_examples=200, deadline=None)
@given(limits=LIMITS_OF_ALL_KINDS, steps=st.lists(STEPS, min_size=20, max_size=60))
async def test_it_does_what_the_model_does(
    valkey: Valkey, kind: str, limits: GuardLimits, steps: list[tuple[str, Attempt | int | float]]
) -> None:
    """Locks, doubling, forgetting, an account's own addresses and the buckets of addresses, in whatever order."""
    clock, model = FixedClock(), Model(limits)
    going_on: list[Attempt] = []
    async with making(valkey) as kinds:
        guard = kinds(kind)(limits, clock)
        for verb, value in steps:
            match value:
                case Attempt() if verb == "recognised":
                    await guard.recognised(value)
                    model.recognised(value, clock.now)
                case Attempt():
                    answer = await entered(guard, value)
                    assert answer == model.enter(value, clock.now)
                    if answer == "open":
                        going_on.append(value)
                case float():
                    clock.advance(value)
                case int() if going_on:
                    attempt = going_on.pop(value % len(going_on))
                    await getattr(guard, verb)(attempt)
                    getattr(model, verb)(attempt, clock.now)


@settings(max_examples=100, deadline=None)
@given(
    waits=st.lists(
        st.sampled_from([0, 1, 30, 60, 480, 900, 901, HOUR, 4 * HOUR - 1, 4 * HOUR]), min_size=20, max_size=300
    )
)
async def test_nobody_has_more_tries_than_the_limits_say(waits: list[float]) -> None:
    """With the defaults, 15 and one each quarter of an hour, in any window of time and whatever is waited for."""
    clock = FixedClock()
    guard = MemoryGuard(GuardLimits(), clock)
    tries: list[float] = []
    for number, wait in enumerate(waits * 3):
        clock.advance(wait)
        attempt = Attempt("ada", f"192.0.2.{number}")
        if await guard.enter(attempt):
            await guard.failed(attempt)
            tries.append(clock.now)
            assert all(len(tries) - first <= 15 + (clock.now - at) / 900 for first, at in enumerate(tries))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["elsewhere", "elsewhere", "home", "office", "s-1", "s-2"]),
            st.sampled_from([0, 1, 30, 60, 900, HOUR, 4 * HOUR]),
        ),
        min_size=20,
        max_size=300,
    )
)
async def test_each_address_of_its_own_and_each_session_has_as_many_and_takes_none_of_others(
    steps: list[tuple[str, float]],
) -> None:
    """The bound that the guide names: of each of them, and of all other addresses together."""
    clock = FixedClock()
    guard, alone = MemoryGuard(GuardLimits(), clock), MemoryGuard(GuardLimits(), clock)
    tries: dict[str, list[float]] = defaultdict(list)
    for number, (where, wait) in enumerate(steps):
        clock.advance(wait)
        for home in ("home", "office"):
            await guard.recognised(Attempt("ada", home))
        attempt = {
            "elsewhere": Attempt("ada", f"192.0.2.{number}"),
            "home": Attempt("ada", "home"),
            "office": Attempt("ada", "office"),
        }.get(where, Attempt("ada", f"192.0.2.{number}", where))
        # What one place has is what it would have if nobody tried anywhere else.
        let_in = await guard.enter(attempt)
        assert let_in == await alone.enter(Attempt(where, f"192.0.2.{number}"))
        if let_in:
            await guard.failed(attempt)
            await alone.failed(Attempt(where, f"192.0.2.{number}"))
            tries[where].append(clock.now)
            mine = tries[where]
            assert all(len(mine) - first <= 15 + (clock.now - at) / 900 for first, at in enumerate(mine))


# Many at once


async def test_of_200_guesses_at_once_no_more_get_in_than_one_after_the_other(
    valkey: Valkey, clock: FixedClock
) -> None:
    secret = SecretBytes(b"shared by all replicas")
    async with AsyncExitStack() as stack:
        replicas = [
            ValkeyGuard(await stack.enter_async_context(link), LIMITS, secret=secret)
            for link in (open_link(valkey.url("auth"), connections=10, timeout=20, component="guard") for _ in range(4))
        ]

        async def guess(number: int) -> str:
            attempt, guard = Attempt("ada", f"198.51.100.{number}"), replicas[number % 4]
            answer = await entered(guard, attempt)
            if answer == "open":
                await asyncio.sleep(0)  # others come meanwhile
                await guard.failed(attempt)
            return answer

        answers = await asyncio.gather(*(guess(number) for number in range(200)))
        assert answers.count("open") == 3
        assert "address" not in answers
        # All replicas know that it is locked, by one clock.
        assert [await entered(guard, ADA) for guard in replicas] == ["locked"] * 4


async def test_200_right_passwords_at_once_are_never_called_wrong(guard: LoginGuard) -> None:
    async def log_in() -> None:
        async with asyncio.timeout(60):
            while (answer := await entered(guard, ADA)) == "busy":  # noqa: ASYNC110  # as a caller would
                await asyncio.sleep(0.001)
        assert answer == "open"
        await asyncio.sleep(0)
        await guard.succeeded(ADA)

    await asyncio.gather(*(log_in() for _ in range(200)))
    await fail(guard, ADA, 3)  # none of them left anything


# What is kept


async def test_what_is_in_valkey_ends_by_itself_and_names_nobody(own_valkey: Valkey, clock: FixedClock) -> None:
    attempt = Attempt("ada.lovelace", "203.0.113.77")
    async with making(own_valkey) as kinds, Redis.from_url(own_valkey.url(SUPERUSER)) as client:
        guard = kinds("valkey")(LIMITS, clock)
        await fail(guard, attempt, 2)
        assert await guard.enter(attempt)
        await guard.succeeded(attempt)
        await fail(guard, attempt, 3)
        await fail(guard, replace(attempt, address="203.0.113.78"), 2)

        seen = []
        async for key in client.scan_iter():
            hours = await client.pttl(key) / 1000
            assert 0 < hours <= 5000 + 60
            value = await (client.hgetall(key) if await client.type(key) == b"hash" else client.get(key))
            seen.append(f"{key!r} {value!r}")
        assert len(seen) == 5  # two buckets, the account, its own address and the tries there
        assert all(text.startswith("b'auth:guard:{") for text in seen)
        assert not any(part in text for text in seen for part in ("ada", "lovelace", "203.0", "113.7"))


async def test_what_is_in_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, clock: FixedClock) -> None:
    monkeypatch.setattr(memory_guard, "MOST_ACCOUNTS", 10)
    monkeypatch.setattr(rate_limit, "MAX_BUCKETS", 10)
    guard = MemoryGuard(LIMITS, clock)
    for number in range(100):
        attempt = Attempt(f"user-{number}", f"192.0.2.{number}")
        await guard.enter(attempt)
        await guard.succeeded(attempt)
        await guard.enter(attempt)
        await guard.enter(replace(attempt, address=""))
    assert len(guard._known) == len(guard._tries) == len(guard._addresses._levels) == 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"failures": 0},
        {"pause": 0},
        {"pause": 60, "longest_pause": 30},
        {"longest_pause": DAY, "forgotten": DAY},
        {"known": 0},
        {"address_rate": 0},
        {"address_burst": 0},
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        replace(GuardLimits(), **wrong)


def test_a_pause_of_very_many_tries_is_the_longest() -> None:
    assert GuardLimits().pause_after(1_000_000) == GuardLimits().longest_pause


# Without Valkey


async def test_logins_go_on_while_valkey_is_killed_and_it_is_used_again_by_itself(own_valkey: Valkey) -> None:
    limits = GuardLimits(failures=3, address_burst=100_000)
    secret, url = SecretBytes(b"x" * 32), SecretStr(own_valkey.url("auth"))
    with structlog.testing.capture_logs() as lines:
        async with open_guard(url, limits, secret) as (guard, (check,)):
            assert not check.critical
            assert await check.probe()
            await fail(guard, ADA, 3)
            os.kill(own_valkey.unit.pid, signal.SIGKILL)
            async with asyncio.timeout(20):
                while not lines:
                    assert await entered(guard, Attempt("grace", "")) in {"open", "busy"}
            with pytest.raises(Exception, match=r"(?i)connect|refused|closed|reset"):
                await check.probe()

            # It goes on, and what it has seen itself it holds up.
            for number in range(200):
                attempt = Attempt(f"user-{number}", "192.0.2.9")
                assert await guard.enter(attempt)
                await guard.succeeded(attempt)
            await fail(guard, ADA, 3)
            assert not await guard.enter(ADA)

            await own_valkey.unit.stop()
            await own_valkey.unit.start()
            async with asyncio.timeout(30):
                while await entered(guard, ADA) != "open":  # noqa: ASYNC110  # Valkey has forgotten
                    await asyncio.sleep(0.01)
            assert await check.probe()
            async with Redis.from_url(own_valkey.url(SUPERUSER)) as client:
                assert [key async for key in client.scan_iter("auth:guard:*")]
    assert [line["event"] for line in lines] == ["Valkey fails: going on without it", "Valkey answers again"]
    assert {line["component"] for line in lines} == {"login guard"}
    assert "auth:" not in str([line.get("reason") for line in lines])


async def test_a_valkey_that_hangs_costs_one_wait(own_valkey: Valkey) -> None:
    limits = GuardLimits(address_burst=100_000)
    async with open_guard(SecretStr(own_valkey.url("auth")), limits, SecretBytes(b"x")) as (guard, _):
        assert await guard.enter(ADA)
        os.kill(own_valkey.unit.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(10):  # 200 waits would be 50 s
                for number in range(200):
                    assert await guard.enter(Attempt(f"user-{number}", ""))
        finally:
            os.kill(own_valkey.unit.pid, signal.SIGCONT)


async def test_it_starts_without_valkey(own_valkey: Valkey) -> None:
    url = SecretStr(own_valkey.url("auth"))
    await own_valkey.stop()
    async with open_guard(url, LIMITS, SecretBytes(b"x")) as (guard, _):
        await fail(guard, ADA, 3)
        assert not await guard.enter(ADA)


async def test_without_a_url_it_is_in_memory() -> None:
    async with open_guard(SecretStr(""), LIMITS, SecretBytes(b"x")) as (guard, checks):
        assert not checks
        await fail(guard, ADA, 3)
        assert not await guard.enter(ADA)
