"""What is taken back is known everywhere soon, whatever happens to Valkey and whatever stands in the stream."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import RedisError

from grpc_common import revocation_stream
from grpc_common.background import background
from grpc_common.claims import LEEWAY
from grpc_common.errors import ExternalServiceError
from grpc_common.principal import Principal
from grpc_common.revocation_stream import KEPT, KEY, PAGE, RevocationStream, following
from grpc_common.revocations import IssuedUntil, Restore, Revocation, Revocations, TakenBack
from localmesh.parts.valkey import Valkey

PATIENCE = 30.0
SOON = revocation_stream.TIMEOUT
AWAY = (RedisError, OSError, TimeoutError)


def later() -> float:
    return time.time() + 600


def knows(revocations: Revocations, identifier: str) -> bool:
    principal = Principal(subject="ann", issuer="test", expires_at=0, token_id=identifier, issued_at=time.time())
    return revocations.covers(principal)


async def until(fact: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def until_known(revocations: Revocations, *identifiers: str) -> None:
    await until(lambda: all(knows(revocations, each) for each in identifiers))


@asynccontextmanager
async def follower(url: str, restore: Restore | None = None) -> AsyncIterator[tuple[RevocationStream, Revocations]]:
    """Yields one who follows and has caught up."""
    revocations = Revocations()
    async with RevocationStream(url) as stream, background(stream.follow(revocations, restore)):
        async with asyncio.timeout(PATIENCE):
            await stream.caught_up()
        yield stream, revocations


@asynccontextmanager
async def publisher(server: Valkey) -> AsyncIterator[RevocationStream]:
    async with RevocationStream(server.url("auth")) as stream:
        yield stream


async def until_published(stream: RevocationStream, identifier: str) -> None:
    """Publishes as a relay does: again and again, until it is."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await stream.publish(identifier, later())
            except ExternalServiceError:
                await asyncio.sleep(0.02)


async def test_what_is_published_is_known_to_all_who_follow(valkey: Valkey) -> None:
    async with (
        publisher(valkey) as auth,
        follower(valkey.url("items")) as (_, here),
        follower(valkey.url("items")) as (_, there),
    ):
        begun = time.monotonic()
        await auth.publish("a token", later())
        await until_known(here, "a token")
        await until_known(there, "a token")

        assert time.monotonic() - begun < 5
        assert not knows(here, "another")


async def test_all_tokens_issued_until_a_moment_are_taken_back_everywhere(valkey: Valkey) -> None:
    moment = time.time()
    before, after = [Principal("alice", "auth", later(), issued_at=moment + off) for off in (0, 1)]
    async with publisher(valkey) as auth, follower(valkey.url("items")) as (_, here):
        await auth.tell(IssuedUntil(moment))
        await until(lambda: here.covers(before))
        assert not here.covers(after)
    async with follower(valkey.url("items")) as (_, revocations):
        assert revocations.covers(before)
        assert not revocations.covers(after)


async def test_what_was_issued_until_then_is_told_again_where_the_stream_has_lost_it(valkey: Valkey) -> None:
    moment = time.time()

    async def taken_back() -> list[TakenBack]:
        return [IssuedUntil(moment), Revocation("one", later())]

    async with follower(valkey.url("auth"), taken_back), follower(valkey.url("items")) as (_, there):
        await until_known(there, "one")
        assert there.issued_until == moment


@pytest.mark.parametrize("moment", ["nan", "inf", "-1", "soon", "", "1e300"])
async def test_a_moment_that_would_shut_everybody_out_is_skipped(valkey: Valkey, admin: Redis, moment: str) -> None:
    await admin.xadd(KEY, {"issued_until": moment})
    await admin.xadd(KEY, {"issued_until": str(time.time() + 3600)})
    async with publisher(valkey) as auth, follower(valkey.url("items")) as (_, here):
        await auth.publish("one", later())
        await until_known(here, "one")
        assert here.issued_until == float("-inf")
        with pytest.raises(ValueError, match="no token or session is"):
            await auth.tell(IssuedUntil(time.time() + 3600))


async def test_what_was_published_before_is_known_to_who_comes_later(valkey: Valkey) -> None:
    async with publisher(valkey) as auth:
        for number in range(3):
            await auth.publish(f"token {number}", later())
    async with follower(valkey.url("items")) as (_, revocations):
        assert all(knows(revocations, f"token {number}") for number in range(3))


async def test_thousands_are_known_when_it_has_caught_up(valkey: Valkey, admin: Redis) -> None:
    count = 5 * PAGE + 7
    async with admin.pipeline(transaction=False) as pipe:
        for number in range(count):
            pipe.xadd(KEY, {"id": f"token {number}", "expires": later()})
        await pipe.execute()

    async with follower(valkey.url("items")) as (_, revocations):
        assert len(revocations) == count
        assert all(knows(revocations, f"token {number}") for number in range(count))


async def test_what_has_expired_takes_no_room(valkey: Valkey) -> None:
    async with publisher(valkey) as auth:
        await auth.publish("expired", time.time() - 3600)
        await auth.publish("alive", later())
    async with follower(valkey.url("items")) as (_, revocations):
        assert len(revocations) == 1


async def test_old_entries_are_trimmed(valkey: Valkey, admin: Redis) -> None:
    old = round((time.time() - KEPT - 60) * 1000)
    young = round((time.time() - KEPT + 60) * 1000)
    async with admin.pipeline(transaction=False) as pipe:
        for number in range(5_000):
            pipe.xadd(KEY, {"id": "old", "expires": 1}, id=f"{old}-{number}")
        for number in range(500):
            pipe.xadd(KEY, {"id": "young", "expires": 1}, id=f"{young}-{number}")
        await pipe.execute()
    async with publisher(valkey) as auth:
        await auth.publish("new", later())

    left = await admin.xlen(KEY)

    assert 501 <= left <= 701  # Valkey drops nodes of a hundred entries as a whole
    assert await admin.xrange(KEY, f"{young}-0", f"{young}-0")


async def test_a_connection_that_breaks_costs_nothing(valkey: Valkey, admin: Redis) -> None:
    async with publisher(valkey) as auth, follower(valkey.url("items")) as (stream, revocations):
        for number in range(10):
            await admin.client_kill_filter(_type="normal", skipme=True)
            await until_published(auth, f"token {number}")
        await until_known(revocations, *(f"token {number}" for number in range(10)))
        async with asyncio.timeout(PATIENCE):
            await stream.caught_up()
        assert await stream.answers()


async def test_a_valkey_that_is_killed_is_caught_up_with_when_it_is_back(own_valkey: Valkey) -> None:
    async with publisher(own_valkey) as auth, follower(own_valkey.url("items")) as (stream, revocations):
        await auth.publish("before", later())
        await until_known(revocations, "before")
        os.kill(own_valkey.unit.pid, signal.SIGKILL)
        with pytest.raises(ExternalServiceError, match="cannot be published") as refused:
            while True:  # what was under way may still be done
                await auth.publish("while it is away", later())
        assert own_valkey.url("auth").split(":")[2].split("@")[0] not in str(refused.value)
        await until(lambda: not stream._caught_up.is_set())
        with pytest.raises(AWAY):
            await stream.answers()
        assert knows(revocations, "before")

        await own_valkey.unit.stop()
        await own_valkey.unit.start()
        begun = time.monotonic()
        await until_published(auth, "after")
        await until_known(revocations, "after")
        assert time.monotonic() - begun < 5
        assert knows(revocations, "before")
        async with asyncio.timeout(PATIENCE):
            await stream.caught_up()
        assert await stream.answers()


async def test_a_valkey_that_is_away_at_the_start_is_waited_for_no_longer_than_a_moment(own_valkey: Valkey) -> None:
    await own_valkey.unit.stop()
    revocations = Revocations()
    with structlog.testing.capture_logs() as lines:
        async with following(own_valkey.url("items"), revocations) as check, publisher(own_valkey) as auth:
            assert (check.name, check.critical) == ("revocations", False)
            with pytest.raises(AWAY):
                await check.probe()
            await own_valkey.unit.start()
            await until_published(auth, "a token")
            await until_known(revocations, "a token")
            assert await check.probe()

    said = [line["event"] for line in lines if line.get("component") == "revocations"]
    assert said == ["revocations are not heard of, those known count", "revocations are heard of"]


async def test_a_valkey_that_hangs_is_noticed(own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation_stream, "TIMEOUT", SOON)
    async with publisher(own_valkey) as auth, follower(own_valkey.url("items")) as (stream, revocations):
        await until_published(auth, "before")
        os.kill(own_valkey.unit.pid, signal.SIGSTOP)
        try:
            with pytest.raises(ExternalServiceError, match="TimeoutError"):
                await auth.publish("while it hangs", later())
            await until(lambda: not stream._caught_up.is_set())
        finally:
            os.kill(own_valkey.unit.pid, signal.SIGCONT)
        await until_published(auth, "after")
        await until_known(revocations, "before", "after")


@pytest.mark.parametrize("how", ["flushed", "restarted"])
async def test_what_valkey_lost_is_published_anew(own_valkey: Valkey, how: str) -> None:
    database = [Revocation("one", later()), Revocation("two", later())]
    asked = 0

    async def restore() -> Iterable[Revocation]:
        nonlocal asked
        asked += 1
        if asked in {2, 3}:
            raise ExternalServiceError("the database is away, too")
        return database

    async with (
        Redis.from_url(own_valkey.url("meshwork")) as admin,
        follower(own_valkey.url("auth"), restore) as (auth, known),
        follower(own_valkey.url("items")) as (_, elsewhere),
    ):
        await until_known(known, "one", "two")
        await until_known(elsewhere, "one", "two")
        assert asked == 1
        await auth.publish("three", later())
        database.append(Revocation("three", later()))
        if how == "flushed":
            await admin.flushall()
        else:
            os.kill(own_valkey.unit.pid, signal.SIGKILL)
            await own_valkey.unit.stop()
            await own_valkey.unit.start()

        await until(lambda: asked == 4)
        async with asyncio.timeout(PATIENCE):
            while await admin.xlen(KEY) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        async with follower(own_valkey.url("items")) as (_, newcomer):
            await until_known(newcomer, "one", "two", "three")


async def test_a_loss_is_noticed_where_entries_never_cease(valkey: Valkey, admin: Redis) -> None:
    asked = 0

    async def restore() -> Iterable[Revocation]:
        nonlocal asked
        asked += 1
        return [Revocation("one", later())]

    async def publish(auth: RevocationStream) -> None:
        while True:
            await auth.publish("another", later())

    async with follower(valkey.url("auth"), restore) as (auth, known):
        await until_known(known, "one")
        async with background(publish(auth)):
            await until_known(known, "another")
            await admin.flushall()
            await until(lambda: asked == 2)
            async with follower(valkey.url("items")) as (_, newcomer):
                await until_known(newcomer, "one", "another")


async def test_nothing_is_published_anew_as_long_as_nothing_is_lost(
    valkey: Valkey, admin: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation_stream, "QUIET", 0.02)
    asked = 0

    async def restore() -> Iterable[Revocation]:
        nonlocal asked
        asked += 1
        return [Revocation("one", later())]

    async with follower(valkey.url("auth"), restore) as (auth, known):
        await until_known(known, "one")
        for number in range(5):
            await admin.client_kill_filter(_type="normal", skipme=True)
            await until_published(auth, f"token {number}")
            await until_known(known, f"token {number}")
            await asyncio.sleep(0.1)  # time to be quiet in
    assert asked == 1


async def test_a_stream_that_begins_anew_with_lower_ids_is_read(
    valkey: Valkey, admin: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a loss of memory on a machine whose clock was set back."""
    monkeypatch.setattr(revocation_stream, "QUIET", 0.1)
    async with publisher(valkey) as auth, follower(valkey.url("items")) as (_, revocations):
        await auth.publish("before", later())
        await until_known(revocations, "before")
        async with admin.pipeline(transaction=True) as pipe:
            pipe.delete(KEY)
            pipe.xadd(KEY, {"id": "after", "expires": later()}, id="1-1")
            await pipe.execute()
        await until_known(revocations, "after")


def sensible(fields: dict[bytes, bytes]) -> bool:
    try:
        identifier, expires = fields[b"id"].decode(), float(fields[b"expires"].decode())
    except (KeyError, ValueError):
        return False
    return 1 <= len(identifier) <= 256 and 0 <= expires < 253_402_300_800


texts = st.binary(max_size=300) | st.sampled_from(
    [
        b"",
        b"nan",
        b"NaN",
        b"inf",
        b"-inf",
        b"1e999",
        b"-1",
        b"0",
        b"9" * 400,
        b"1795291554",
        b"1e400",
        b"\xff",
        b"a" * 257,
    ]
)
identifiers = st.text(min_size=1, max_size=300).map(lambda text: text.encode("utf-8", "replace"))
entries = st.dictionaries(
    st.sampled_from([b"id", b"expires", b"ID", b"jti", b""]), texts | identifiers, min_size=1, max_size=4
) | st.builds(
    lambda identifier, expires: {b"id": identifier, b"expires": repr(expires).encode()},
    identifiers,
    st.floats() | st.integers() | st.floats(4e9, 5e9),
)


@given(found=st.lists(entries, max_size=8))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_entries_that_make_no_sense_change_nothing_for_the_others(
    valkey: Valkey, admin: Redis, found: list[dict[bytes, bytes]]
) -> None:
    """R4: whatever stands in the stream, a revocation after it is heard of, and nothing else is revoked."""
    await admin.delete(KEY)
    for fields in [*found, {b"id": b"last", b"expires": str(later()).encode()}]:
        await admin.xadd(KEY, dict[Any, Any](fields))
    with structlog.testing.capture_logs() as lines:
        async with follower(valkey.url("items")) as (_, revocations):
            now = time.time() - LEEWAY
            good = {each[b"id"].decode() for each in found if sensible(each) and float(each[b"expires"]) > now}
            assert set(revocations._revoked) == good | {"last"}
    bad = sum(not sensible(fields) for fields in found)
    warned = [line for line in lines if "no sense" in line["event"]]
    assert [line["count"] for line in warned] == ([bad] if bad else [])


async def test_a_key_of_another_type_is_an_error_that_goes_away(valkey: Valkey, admin: Redis) -> None:
    await admin.set(KEY, "no stream")
    revocations = Revocations()
    async with publisher(valkey) as auth, following(valkey.url("items"), revocations) as check:
        assert not await check.probe()
        with pytest.raises(ExternalServiceError, match="WRONGTYPE"):
            await auth.publish("a token", later())
        await admin.delete(KEY)
        await auth.publish("a token", later())
        await until_known(revocations, "a token")


async def test_who_may_only_read_follows_and_cannot_publish(valkey: Valkey) -> None:
    async with follower(valkey.url("items")) as (stream, _):
        with pytest.raises(ExternalServiceError, match="permission"):
            await stream.publish("a token", later())


async def test_who_only_publishes_is_well_when_valkey_answers(own_valkey: Valkey) -> None:
    async with publisher(own_valkey) as auth:
        assert await auth.answers()
        await own_valkey.unit.stop()
        with pytest.raises(AWAY):
            await auth.answers()


@pytest.mark.parametrize("query", ["socket_timeout=0.01", "protocol=3", "decode_responses=True"])
async def test_what_the_url_asks_of_the_client_changes_nothing(valkey: Valkey, query: str) -> None:
    url = valkey.url("auth") + "?" + query
    with structlog.testing.capture_logs() as lines:
        async with RevocationStream(url) as auth, follower(url) as (_, revocations):
            await asyncio.sleep(0.1)  # longer than the timeout in the URL
            await auth.publish("a token", later())
            await until_known(revocations, "a token")
    assert [line["event"] for line in lines] == ["revocations are heard of"]


async def test_many_are_published_at_once(valkey: Valkey) -> None:
    async with publisher(valkey) as auth, follower(valkey.url("items")) as (_, revocations):
        await asyncio.gather(*(auth.publish(f"token {number}", later()) for number in range(100)))
        await until_known(revocations, *(f"token {number}" for number in range(100)))


@pytest.mark.parametrize(
    ("identifier", "expires_at"),
    [("", 1.0), ("a" * 257, 1.0), ("a", float("nan")), ("a", float("inf")), ("a", -1.0), ("a", 1e12), ("\ud800", 1.0)],
)
async def test_what_no_reader_would_accept_is_not_published(
    valkey: Valkey, admin: Redis, identifier: str, expires_at: float
) -> None:
    async with publisher(valkey) as auth:
        with pytest.raises(ValueError, match=r"no token or session|surrogates"):
            await auth.publish(identifier, expires_at)
    assert not await admin.exists(KEY)


async def test_following_leaves_nothing_behind(valkey: Valkey) -> None:
    before = asyncio.all_tasks()

    async def restore() -> Iterable[Revocation]:
        await asyncio.Event().wait()
        return ()

    async with following(valkey.url("auth"), Revocations(), restore):
        assert len(asyncio.all_tasks()) > len(before)
    assert asyncio.all_tasks() == before


async def test_what_breaks_off_goes_on_where_it_was_and_leaves_out_what_makes_no_sense(
    valkey: Valkey, admin: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation_stream, "LONGEST_PAUSE", 0.01)
    publish, failures = RevocationStream.publish, iter([False] * 10 + [True, True] + [False] * 20)

    async def publish_mostly(stream: RevocationStream, identifier: str, expires_at: float) -> None:
        if next(failures):
            raise ExternalServiceError("too slow")
        await publish(stream, identifier, expires_at)

    monkeypatch.setattr(RevocationStream, "publish", publish_mostly)
    taken_back = [Revocation(str(number), later()) for number in range(15)]

    async def restore() -> Iterable[Revocation]:
        return [*taken_back[:5], Revocation("", later()), *taken_back[5:]]

    async with follower(valkey.url("auth"), restore) as (_, known):
        await until_known(known, *(each.id for each in taken_back))
    assert await admin.xlen(KEY) == len(taken_back)
