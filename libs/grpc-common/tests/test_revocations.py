"""A token that was taken back stays so, and remembering that costs a bounded amount."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from grpc_common.claims import LEEWAY
from grpc_common.fixed_clock import FixedClock
from grpc_common.principal import Principal
from grpc_common.revocations import Revocations


def principal(token_id: str, issued_at: float | None = None, session_id: str = "") -> Principal:
    who = Principal(subject="alice", issuer="test", expires_at=0.0, token_id=token_id, issued_at=issued_at)
    return replace(who, session_id=session_id)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 50), st.sampled_from([None, 10, 100])), max_size=40
    ),
    capacity=st.integers(1, 5),
)
@settings(max_examples=300, deadline=None)
def test_no_revoked_token_counts_again_while_it_could(steps, capacity):
    """R4: with any number of revocations, a token that was issued before it was revoked and lives on stays revoked."""
    clock = FixedClock()
    revocations = Revocations(capacity, clock=clock)
    revoked: dict[str, tuple[float, float]] = {}
    for token_id, pause, lifetime in steps:
        clock.advance(pause)
        expires_at = None if lifetime is None else clock.now + lifetime
        revocations.revoke(token_id, expires_at)
        since, until = revoked.get(token_id, (clock.now, 0.0))
        revoked[token_id] = since, max(until, (expires_at or clock.now + 24 * 3600) + LEEWAY)
        assert len(revocations) <= capacity
        for known, (moment, until) in revoked.items():
            if until > clock.now:
                assert revocations.covers(principal(known, moment - 1))
                assert revocations.covers(principal("any of a session", moment - 1, known))
        assert not revocations.covers(principal("never revoked", clock.now + 1))


def test_forgotten_once_expired():
    clock = FixedClock()
    revocations = Revocations(clock=clock)
    for number in range(1000):
        revocations.revoke(str(number), clock.now + 10)
        clock.advance(1)
    assert len(revocations) <= 11 + LEEWAY


def test_it_counts_as_long_as_a_verifier_would_accept_the_token():
    clock = FixedClock()
    revocations = Revocations(clock=clock)
    revocations.revoke("a", clock.now + 10)
    clock.advance(10 + LEEWAY - 1)
    revocations.revoke("b")
    assert revocations.covers(principal("a"))


def test_what_has_expired_when_it_is_heard_of_pushes_nothing_out():
    clock = FixedClock()
    revocations = Revocations(2, clock=clock)
    revocations.revoke("alive", clock.now + 100)
    for number in range(10):
        revocations.revoke(str(number), clock.now - LEEWAY)
    assert len(revocations) == 1
    assert not revocations.covers(principal("never revoked", clock.now - 1))


def test_who_hears_of_it_again_forgets_nothing():
    clock = FixedClock()
    revocations = Revocations(2, clock=clock)
    revocations.revoke("a", clock.now + 1000)
    clock.advance(100)
    issued = clock.now
    clock.advance(100)
    revocations.revoke("a", clock.now + 1)  # as when a stream is read anew, or by another publisher
    clock.advance(LEEWAY + 2)
    revocations.revoke("b")
    assert revocations.covers(principal("a"))

    revocations.revoke("c")
    assert not revocations.covers(principal("issued after a was revoked", issued))


def test_a_token_without_a_name_is_revoked_only_with_all_others():
    revocations = Revocations()
    revocations.revoke("")
    assert not revocations.covers(principal(""))
    assert not revocations.covers(principal("", session_id="a session"))
    revocations.revoke_issued_until(100.0)
    assert revocations.covers(principal("", None))
    assert revocations.covers(principal("a", 100.0))
    assert not revocations.covers(principal("a", 100.5))


class TestWatching:
    def test_only_the_one_revoked_hears_of_it(self):
        revocations, ended = Revocations(), []
        with (
            revocations.watching(principal("a"), lambda: ended.append("first a")),
            revocations.watching(principal("a"), lambda: ended.append("second a")),
            revocations.watching(principal("b"), lambda: ended.append("b")),
        ):
            revocations.revoke("a")
            assert sorted(ended) == ["first a", "second a"]
        revocations.revoke("b")
        assert "b" not in ended
        assert not revocations._watches

    def test_all_of_a_session_hear_of_it_and_nobody_else(self):
        revocations, ended = Revocations(), []
        with (
            revocations.watching(principal("a", None, "phone"), lambda: ended.append("a")),
            revocations.watching(principal("b", None, "phone"), lambda: ended.append("b")),
            revocations.watching(principal("phone", None, "laptop"), lambda: ended.append("named like a session")),
            revocations.watching(principal("c"), lambda: ended.append("of no session")),
            revocations.watching(principal("", None, "laptop"), lambda: ended.append("of another")),
        ):
            revocations.revoke("")
            assert not ended
            revocations.revoke("phone")
            assert sorted(ended) == ["a", "b", "named like a session"]
        assert not revocations._watches

    def test_a_moment_is_heard_of_once(self):
        revocations, ended = Revocations(), []
        with revocations.watching(principal("a", 5.0, "phone"), lambda: ended.append("a")):
            revocations.revoke_issued_until(10.0)
        assert ended == ["a"]

    def test_whoever_is_covered_hears_of_a_moment(self):
        revocations, ended = Revocations(), []
        with (
            revocations.watching(principal("old", 5.0), lambda: ended.append("old")),
            revocations.watching(principal("new", 20.0), lambda: ended.append("new")),
            revocations.watching(principal("", None), lambda: ended.append("unknown")),
        ):
            revocations.revoke_issued_until(10.0)
            assert sorted(ended) == ["old", "unknown"]

    def test_one_pushed_out_by_too_many_hears_of_it(self):
        clock, ended = FixedClock(), []
        revocations = Revocations(1, clock=clock)
        with revocations.watching(principal("old", clock.now - 5), lambda: ended.append("old")):
            revocations.revoke("one")
            revocations.revoke("two")
        assert ended == ["old"]
