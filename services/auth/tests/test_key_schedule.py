"""When which version of the key is used: a token is verified from its first to its last second."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from auth.key_schedule import KeySchedule
from auth.signer import PublicKey

SCHEDULE = KeySchedule(period=1000, ahead=60, lifetime=90, leeway=12)


def versions(*made_at: float, first: int = 1) -> list[PublicKey]:
    return [PublicKey(number, moment, {"x": str(number)}) for number, moment in enumerate(made_at, first)]


def numbers(found: list[PublicKey]) -> list[int]:
    return [version.version for version in found]


def around(*edges: int) -> st.SearchStrategy[int]:
    """Moments of which many are just before or just at an edge, where mistakes are."""
    return st.sampled_from([max(0, edge + by) for edge in edges for by in (-1, 0)]) | st.integers(0, 5000)


def late(made_at: list[int], data: st.DataObject) -> dict[str, float]:
    """By how much a replica learnt of each version late."""
    return {version.kid: data.draw(st.just(0) | around(60)) for version in versions(*made_at)}


MOMENTS = st.lists(st.integers(0, 3000), min_size=1, max_size=8, unique=True).map(sorted)


@hypothesis_settings(max_examples=300, deadline=None)
@given(made_at=MOMENTS, data=st.data())
def test_a_token_is_verified_for_as_long_as_it_lives(made_at: list[int], data: st.DataObject) -> None:
    signed_at = max(made_at[0], data.draw(around(*(m + edge for m in made_at for edge in (60, 120)))))
    read_at = signed_at + min(90 + 12 - 1, data.draw(around(0, 90, 90 + 12)))
    known = versions(*(m for m in made_at if m <= signed_at))
    signed_by = SCHEDULE.signing(known, signed_at, late(made_at, data))

    published = SCHEDULE.published(versions(*(m for m in made_at if m <= read_at)), read_at)

    assert signed_by.version in numbers(published)


@hypothesis_settings(max_examples=300, deadline=None)
@given(made_at=MOMENTS, data=st.data())
def test_who_reads_the_keys_now_and_then_knows_the_one_that_signs(made_at: list[int], data: st.DataObject) -> None:
    signed_at = max(made_at[0] + 60, data.draw(around(*(m + edge for m in made_at for edge in (60, 120)))))
    read_at = signed_at - min(60, data.draw(around(0, 60, 61)))
    signed_by = SCHEDULE.signing(versions(*(m for m in made_at if m <= signed_at)), signed_at, late(made_at, data))

    published = SCHEDULE.published(versions(*(m for m in made_at if m <= read_at)), read_at)

    assert signed_by.version in numbers(published)


@hypothesis_settings(max_examples=300, deadline=None)
@given(learnt=around(0, 60, 120), data=st.data())
def test_who_learnt_of_a_key_late_publishes_it_for_as_long_unless_that_is_too_long(
    learnt: int, data: st.DataObject
) -> None:
    made_at = 1000
    now = made_at + max(learnt, data.draw(around(60, 120, learnt + 60)))

    known = versions(0, made_at)

    signs = SCHEDULE.signing(known, now, {known[1].kid: learnt}).version == 2

    assert signs == (now >= made_at + min(learnt, 60) + 60)


@hypothesis_settings(max_examples=300, deadline=None)
@given(made_at=MOMENTS, data=st.data())
def test_what_is_no_longer_published_can_go_without_anybody_noticing(made_at: list[int], data: st.DataObject) -> None:
    now = data.draw(around(*(m + edge for m in made_at for edge in (60, 120, 120 + 90 + 12))))
    when = late(made_at, data)
    known = versions(*(m for m in made_at if m <= max(now, made_at[0])))
    published = SCHEDULE.published(known, now)

    left = [version for version in known if version.version >= published[0].version]

    assert numbers(published) == numbers(left)
    assert SCHEDULE.signing(left, now, when) == SCHEDULE.signing(known, now, when)
    assert SCHEDULE.published(left, now) == published


def test_the_first_key_signs_at_once() -> None:
    assert SCHEDULE.signing(versions(100), 100, {}).version == 1


@pytest.mark.parametrize(
    ("now", "signing", "published"),
    [
        (1000, 1, [1, 2]),
        (1059, 1, [1, 2]),
        (1060, 2, [1, 2]),
        (1221, 2, [1, 2]),
        (1222, 2, [2]),
    ],
)
def test_a_new_key_is_published_then_signs_then_is_alone(now: int, signing: int, published: list[int]) -> None:
    known = versions(0, 1000)

    assert SCHEDULE.signing(known, now, {}).version == signing
    assert numbers(SCHEDULE.published(known, now)) == published


def test_a_key_is_due_when_its_period_is_over() -> None:
    assert not SCHEDULE.due(versions(0, 500), 1499)
    assert SCHEDULE.due(versions(0, 500), 1500)


@pytest.mark.parametrize("wrong", [{"ahead": -1}, {"lifetime": -1}, {"leeway": -1}, {"period": 600}])
def test_times_that_contradict_each_other_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a key must be made"):
        KeySchedule(**wrong)
