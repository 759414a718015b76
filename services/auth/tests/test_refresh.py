"""Refresh tokens: one successor for all who ask in time, and an end for the family of a stolen one."""

import asyncio
from dataclasses import dataclass, field

import pytest
import structlog
from begun import begun
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretBytes, SecretStr

from auth.family import MOST_ROTATIONS, Family
from auth.refresh import Lifetimes, RefreshRefusedError, RefreshToken, RefreshTokens, _derive
from grpc_common.errors import AbortedError, RateLimitError
from grpc_common.fixed_clock import FixedClock
from memory_families import MemoryFamilies

GRACE, IDLE, ABSOLUTE = 10.0, 100.0, 500.0
LIFETIMES = Lifetimes(absolute=ABSOLUTE, idle=IDLE, grace=GRACE)
SECRET, OTHER = SecretBytes(bytes(32)), SecretBytes(bytes([1]) * 32)


@pytest.fixture
def families() -> MemoryFamilies:
    return MemoryFamilies()


@pytest.fixture
def tokens(families: MemoryFamilies, clock: FixedClock) -> RefreshTokens:
    return RefreshTokens(families, [SECRET], LIFETIMES, clock=clock)


def text(issued: RefreshToken) -> str:
    return issued.token.get_secret_value()


async def is_refused(tokens: RefreshTokens, token: str | SecretStr) -> bool:
    try:
        await tokens.refresh(SecretStr(token) if isinstance(token, str) else token)
    except RefreshRefusedError as error:
        assert error.message == "the refresh token is not accepted: log in again"
        return True
    return False


class TestOneUse:
    async def test_a_family_goes_from_token_to_token(self, tokens: RefreshTokens) -> None:
        issued = [await begun(tokens, "alice", "web", ["items:read"])]
        for _ in range(20):
            issued.append(await tokens.refresh(issued[-1].token))

        assert len({text(each) for each in issued}) == 21
        assert len({each.family.id for each in issued}) == 1
        assert (issued[-1].family.subject, issued[-1].family.client_id) == ("alice", "web")
        assert issued[-1].family.scopes == {"items:read"}

    async def test_no_token_is_kept(self, tokens: RefreshTokens, families: MemoryFamilies) -> None:
        first = await begun(tokens, "alice", "web")
        second = await tokens.refresh(first.token)

        kept = repr([vars_of(family) for family in families._kept.values()])
        for issued in (first, second):
            assert text(issued) not in kept
            assert text(issued).rpartition(".")[2] not in kept

    async def test_families_have_nothing_in_common(self, tokens: RefreshTokens) -> None:
        issued = [await begun(tokens, "alice", "web") for _ in range(100)]

        assert len({each.family.id for each in issued}) == 100
        assert len({text(each).rpartition(".")[2] for each in issued}) == 100
        assert len({each.family.salt for each in issued}) == 100

    async def test_a_token_is_not_shown(self, tokens: RefreshTokens) -> None:
        issued = await begun(tokens, "alice", "web")
        with structlog.testing.capture_logs() as lines:
            await tokens.refresh(issued.token)
            await is_refused(tokens, text(issued)[:-1])

        assert text(issued).rpartition(".")[2] not in f"{issued!r} {issued} {lines}"


def vars_of(family: Family) -> dict:
    return {name: getattr(family, name) for name in Family.__slots__}


class TestGrace:
    async def test_a_repeat_has_the_same_answer(self, tokens: RefreshTokens, clock: FixedClock) -> None:
        first = await begun(tokens, "alice", "web")
        second = await tokens.refresh(first.token)
        clock.advance(GRACE - 0.001)

        again = await tokens.refresh(first.token)

        assert (text(again), again.expires_at) == (text(second), second.expires_at)
        assert await tokens.refresh(again.token)

    async def test_a_repeat_after_it_ends_the_family(self, tokens: RefreshTokens, clock: FixedClock) -> None:
        first = await begun(tokens, "alice", "web")
        second = await tokens.refresh(first.token)
        clock.advance(GRACE)

        with structlog.testing.capture_logs() as lines:
            assert await is_refused(tokens, first.token)
        assert await is_refused(tokens, second.token)
        (line,) = lines
        assert (line["log_level"], line["reason"], line["subject"]) == ("warning", "reused", "alice")

    async def test_a_late_repeat_hurts_nobody_when_the_successor_is_used_already(
        self, tokens: RefreshTokens, clock: FixedClock
    ) -> None:
        first = await begun(tokens, "alice", "web")
        second = await tokens.refresh(first.token)
        third = await tokens.refresh(second.token)
        clock.advance(GRACE - 0.001)

        assert text(await tokens.refresh(first.token)) == text(second)
        assert text(await tokens.refresh(second.token)) == text(third)
        assert await tokens.refresh(third.token)

    async def test_two_families_of_a_subject_end_apart(self, tokens: RefreshTokens, clock: FixedClock) -> None:
        stolen, other = await begun(tokens, "alice", "web"), await begun(tokens, "alice", "phone")
        await tokens.refresh(stolen.token)
        clock.advance(GRACE)
        await is_refused(tokens, stolen.token)

        assert await tokens.refresh(other.token)

    async def test_more_rotations_than_are_remembered_are_put_off(
        self, tokens: RefreshTokens, clock: FixedClock
    ) -> None:
        first = issued = await begun(tokens, "alice", "web")
        for _ in range(MOST_ROTATIONS):
            issued = await tokens.refresh(issued.token)
        with pytest.raises(RateLimitError):
            await tokens.refresh(issued.token)
        assert text(await tokens.refresh(first.token)).split(".")[1] == "1"

        clock.advance(GRACE)
        assert await tokens.refresh(issued.token)


class TestAtOnce:
    @settings(max_examples=100, deadline=None)
    @given(
        starts=st.lists(st.integers(0, 12), min_size=20, max_size=20),
        replicas=st.integers(1, 3),
        before=st.integers(0, 3),
    )
    async def test_twenty_at_once_have_one_successor_and_nobody_is_logged_out(
        self, starts: list[int], replicas: int, before: int
    ) -> None:
        clock, families = FixedClock(), MemoryFamilies()
        servers = [RefreshTokens(families, [SECRET], LIFETIMES, clock=clock) for _ in range(replicas)]
        issued = await begun(servers[0], "alice", "web")
        for _ in range(before):
            issued = await servers[0].refresh(issued.token)

        async def ask(number: int, start: int) -> RefreshToken:
            for _ in range(start):
                await asyncio.sleep(0)
            return await servers[number % replicas].refresh(issued.token)

        answers = await asyncio.gather(*(ask(number, start) for number, start in enumerate(starts)))

        (successor,) = {text(answer) for answer in answers}
        clock.advance(GRACE + 1)
        assert (await servers[0].refresh(SecretStr(successor))).family.generation == before + 2

    async def test_each_goes_on_from_what_it_got_and_nobody_is_logged_out(
        self, tokens: RefreshTokens, clock: FixedClock
    ) -> None:
        issued = await begun(tokens, "alice", "web")

        async def tab(number: int) -> str:
            token = issued.token
            for _ in range(5):
                for _ in range(number):
                    await asyncio.sleep(0)
                token = (await tokens.refresh(token)).token
            return token.get_secret_value()

        ends = await asyncio.gather(*map(tab, range(20)))

        assert len(set(ends)) == 1
        assert ends[0].split(".")[1] == "5"


class TestLifetimes:
    async def test_a_token_that_is_not_used_expires(self, tokens: RefreshTokens, clock: FixedClock) -> None:
        issued = await begun(tokens, "alice", "web")
        assert issued.expires_at == clock.now + IDLE
        clock.advance(IDLE)

        assert await is_refused(tokens, issued.token)

    async def test_a_family_expires_however_often_it_is_used(self, tokens: RefreshTokens, clock: FixedClock) -> None:
        start = clock.now
        issued = await begun(tokens, "alice", "web")
        while clock.now + 90 < start + ABSOLUTE:
            clock.advance(90)
            issued = await tokens.refresh(issued.token)
        assert issued.expires_at == start + ABSOLUTE

        clock.now = start + ABSOLUTE
        assert await is_refused(tokens, issued.token)

    @pytest.mark.parametrize("wrong", [(100, 200, 10), (100, 100, 100), (100, 50, -1)])
    def test_lifetimes_that_contradict_each_other_are_refused(self, wrong: tuple[float, float, float]) -> None:
        with pytest.raises(ValueError, match="the grace must be shorter"):
            Lifetimes(*wrong)


class TestForgery:
    @pytest.mark.parametrize(
        "token",
        ["", "x", "mrt_", "mrt_" + "0" * 32 + ".0." + "A" * 43, "mrt_" + "0" * 32 + ".00." + "A" * 43, "\0", "é" * 50],
    )
    async def test_what_is_no_token_is_refused(self, tokens: RefreshTokens, token: str) -> None:
        assert await is_refused(tokens, token)

    @settings(max_examples=300, deadline=None)
    @given(data=st.data(), uses=st.integers(0, 4))
    async def test_a_token_with_any_character_changed_proves_nothing_and_ends_nothing(
        self, data: st.DataObject, uses: int
    ) -> None:
        clock = FixedClock()
        tokens = RefreshTokens(MemoryFamilies(), [SECRET], LIFETIMES, clock=clock)
        issued = [await begun(tokens, "alice", "web")]
        for _ in range(uses):
            issued.append(await tokens.refresh(issued[-1].token))
        clock.advance(GRACE + 1)
        token = text(data.draw(st.sampled_from(issued)))
        place = data.draw(st.integers(0, len(token) - 1))
        letter = data.draw(st.characters().filter(lambda letter: letter != token[place]))

        assert await is_refused(tokens, token[:place] + letter + token[place + 1 :])
        assert await tokens.refresh(issued[-1].token)

    @pytest.mark.parametrize("generation", [0, 1, 2, 3, 4])
    async def test_nobody_ends_a_family_by_knowing_its_id(self, tokens: RefreshTokens, generation: int) -> None:
        issued = await begun(tokens, "alice", "web")
        for _ in range(3):
            issued = await tokens.refresh(issued.token)
        forged = f"mrt_{issued.family.id}.{generation}.{'A' * 43}"

        assert await is_refused(tokens, forged)
        await tokens.log_out(SecretStr(forged))
        assert await tokens.find(SecretStr(forged)) is None
        assert await tokens.refresh(issued.token)

    @settings(max_examples=200, deadline=None)
    @given(data=st.data())
    def test_a_token_depends_on_all_that_it_is_derived_from(self, data: st.DataObject) -> None:
        inputs = st.tuples(
            st.binary(min_size=32, max_size=32).map(SecretBytes),
            st.binary(min_size=16, max_size=16).map(bytes.hex),
            st.binary(min_size=16, max_size=16),
            st.integers(0, 10**9 - 1),
        )
        one = data.draw(inputs)
        other = [*one]
        changed = data.draw(st.integers(0, 3))
        other[changed] = data.draw(inputs.map(lambda drawn: drawn[changed]).filter(lambda drawn: drawn != one[changed]))

        first, second = (_derive(*each).get_secret_value().rpartition(".")[2] for each in (one, other))

        assert first != second
        assert _derive(*one) == _derive(*one)

    @pytest.mark.parametrize("secrets", [[], [SecretBytes(bytes(31))], [SECRET, SecretBytes(b"")]])
    def test_a_secret_that_could_be_guessed_is_refused(self, secrets: list[SecretBytes]) -> None:
        with pytest.raises(ValueError, match="at least 32 bytes"):
            RefreshTokens(MemoryFamilies(), secrets, LIFETIMES)


class TestSecretRotation:
    async def test_a_new_secret_logs_nobody_out(self, families: MemoryFamilies, clock: FixedClock) -> None:
        before = RefreshTokens(families, [OTHER], LIFETIMES, clock=clock)
        after = RefreshTokens(families, [SECRET, OTHER], LIFETIMES, clock=clock)
        first = await begun(before, "alice", "web")
        second = await before.refresh(first.token)

        assert text(await after.refresh(first.token)) == text(second)
        third = await after.refresh(second.token)
        assert text(await after.refresh(second.token)) == text(third)
        clock.advance(GRACE)
        assert await is_refused(after, second.token)
        assert await is_refused(after, third.token)

    async def test_a_lost_secret_keeps_the_newest_token(self, families: MemoryFamilies, clock: FixedClock) -> None:
        before = RefreshTokens(families, [OTHER], LIFETIMES, clock=clock)
        after = RefreshTokens(families, [SECRET], LIFETIMES, clock=clock)
        first = await begun(before, "alice", "web")
        second = await before.refresh(first.token)

        assert await is_refused(after, first.token)
        assert await after.refresh(second.token)


class TestEnding:
    async def test_logging_out_ends_the_family_whichever_token_is_shown(self, tokens: RefreshTokens) -> None:
        first = await begun(tokens, "alice", "web")
        second = await tokens.refresh(first.token)
        await tokens.log_out(first.token)

        assert await is_refused(tokens, first.token)
        assert await is_refused(tokens, second.token)
        await tokens.log_out(second.token)
        await tokens.log_out(SecretStr("whatever"))

    async def test_a_family_is_revoked_by_its_id(self, tokens: RefreshTokens) -> None:
        issued = await begun(tokens, "alice", "web")

        assert await tokens.revoke(issued.family.id, "administrator")
        assert not await tokens.revoke(issued.family.id, "administrator")
        assert await is_refused(tokens, issued.token)

    async def test_logging_out_everywhere_ends_all_families_of_the_subject(self, tokens: RefreshTokens) -> None:
        here, there, bob = [await begun(tokens, subject, "web") for subject in ("alice", "alice", "bob")]

        await tokens.log_out(here.token, everywhere=True)

        assert await is_refused(tokens, here.token)
        assert await is_refused(tokens, there.token)
        assert await tokens.refresh(bob.token)

    async def test_a_token_used_up_long_ago_ends_its_own_family_only(
        self, tokens: RefreshTokens, clock: FixedClock
    ) -> None:
        here, there = [await begun(tokens, "alice", "web") for _ in range(2)]
        second = await tokens.refresh(here.token)
        clock.advance(GRACE)

        await tokens.log_out(here.token, everywhere=True)

        assert await is_refused(tokens, second.token)
        assert await tokens.refresh(there.token)

    async def test_an_expired_token_ends_no_other_family(self, tokens: RefreshTokens, clock: FixedClock) -> None:
        here = await begun(tokens, "alice", "web")
        clock.advance(IDLE)
        there = await begun(tokens, "alice", "web")

        await tokens.log_out(here.token, everywhere=True)

        assert await tokens.refresh(there.token)

    async def test_looking_a_token_up_uses_nothing_up(self, tokens: RefreshTokens, clock: FixedClock) -> None:
        first = await begun(tokens, "alice", "web")
        assert (await tokens.find(first.token)) == first.family
        second = await tokens.refresh(first.token)
        for token in (first.token, second.token):
            assert (await tokens.find(token)) == second.family

        clock.advance(GRACE)
        assert await tokens.find(first.token) is None
        assert await tokens.find(second.token) == second.family
        clock.advance(IDLE)
        assert await tokens.find(second.token) is None

    async def test_a_family_revoked_while_it_rotates_stays_revoked(
        self, tokens: RefreshTokens, families: MemoryFamilies
    ) -> None:
        issued = await begun(tokens, "alice", "web")

        answers = await asyncio.gather(
            *(tokens.refresh(issued.token) for _ in range(5)),
            tokens.revoke(issued.family.id, "administrator"),
            return_exceptions=True,
        )

        assert answers[-1] is True
        for answer in answers[:-1]:
            assert isinstance(answer, RefreshRefusedError | RefreshToken)
        assert families._kept[issued.family.id].revoked == "administrator"
        assert await is_refused(tokens, issued.token)

    async def test_a_family_revoked_between_look_and_change_gets_no_token(self, clock: FixedClock) -> None:
        class RevokedMeanwhile(MemoryFamilies):
            async def replace(self, family: Family) -> bool:
                await self.revoke(family.id, "administrator", clock())
                return await super().replace(family)

        tokens = RefreshTokens(RevokedMeanwhile(), [SECRET], LIFETIMES, clock=clock)
        issued = await begun(tokens, "alice", "web")

        assert await is_refused(tokens, issued.token)

    async def test_a_family_that_others_keep_changing_is_given_up_in_bounded_time(self, clock: FixedClock) -> None:
        class NeverOurs(MemoryFamilies):
            async def replace(self, family: Family) -> bool:
                return False

        tokens = RefreshTokens(NeverOurs(), [SECRET], LIFETIMES, clock=clock)
        issued = await begun(tokens, "alice", "web")

        with pytest.raises(AbortedError, match="try again"):
            await tokens.refresh(issued.token)


@dataclass
class Model:
    """What a family should do, said in another way: every token is remembered, with its first use."""

    begun: float
    tokens: list[str]
    made: list[float]
    used: dict[int, float] = field(default_factory=dict)
    over: bool = False

    def expected(self, number: int, now: float) -> int | None:
        """The number of the token that a refresh with token `number` must return; None when it must be refused."""
        if self.over or now >= self.begun + ABSOLUTE or now >= self.made[-1] + IDLE:
            return None
        if number == len(self.tokens) - 1:
            self.used[number] = now
            self.made.append(now)
            return number + 1
        if now - self.used[number] < GRACE:
            return number + 1
        self.over = True
        return None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("refresh"), st.integers(0, 3)),
        st.tuples(st.just("replay"), st.integers(0, 30)),
        st.tuples(st.just("wait"), st.sampled_from([0, 1, 3, 5, 9, 10, 11, 50, 99, 100])),
        st.tuples(st.just("log out"), st.integers(0, 30)),
    ),
    max_size=40,
)


@settings(max_examples=500, deadline=None)
@given(steps=STEPS)
async def test_any_sequence_of_refreshes_replays_and_waits_does_what_it_should(steps: list[tuple[str, int]]) -> None:
    clock = FixedClock()
    tokens = RefreshTokens(MemoryFamilies(), [SECRET], LIFETIMES, clock=clock)
    first = await begun(tokens, "alice", "web")
    model = Model(clock.now, [text(first)], [clock.now])
    for step, amount in steps:
        if step == "wait":
            clock.advance(amount)
        elif step == "log out":
            if amount < 2:  # rarely, or nothing else would be seen
                await tokens.log_out(SecretStr(model.tokens[amount % len(model.tokens)]))
                model.over = True
        else:
            last = len(model.tokens) - 1
            number = max(0, last - amount) if step == "refresh" else amount % len(model.tokens)
            expected = model.expected(number, clock.now)
            if expected is None:
                assert await is_refused(tokens, model.tokens[number])
                continue
            answer = text(await tokens.refresh(SecretStr(model.tokens[number])))
            if expected == len(model.tokens):
                assert answer not in model.tokens
                model.tokens.append(answer)
            assert answer == model.tokens[expected]
