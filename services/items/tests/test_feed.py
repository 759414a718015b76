"""Who follows the changes from now on sees what comes, and nothing that was before; on PostgreSQL and on SQLite."""

import asyncio
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from grpc_common.background import background
from grpc_common.new_id import new_id
from items.change import Change, ChangeKind
from items.changes import PLACED_AT_ONCE, ChangeLog, PlacedChange, record
from items.feed import ChangeFeed
from items.item import NewItem

NOW = datetime(2026, 1, 2, tzinfo=UTC)
QUIET = 60.0


async def commit(engine: AsyncEngine, *names: str) -> None:
    """Changes of another process: nobody here is told."""
    news = (NewItem(name=name, description="", sku=new_id(), quantity=1, price=1) for name in names)
    async with engine.begin() as connection:
        await record(connection, [Change(ChangeKind.CREATED, new.become(new_id(), NOW), NOW) for new in news])


class Follower:
    """Somebody who follows from when it is begun."""

    def __init__(self, feed: ChangeFeed) -> None:
        self._news = feed.follow(None, quiet=QUIET)

    async def begin(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(aclosing(self._news))
        assert isinstance(await anext(self._news), int)

    async def names(self, count: int) -> list[str]:
        found = []
        async with asyncio.timeout(60):
            while len(found) < count:
                news = await anext(self._news)
                assert isinstance(news, PlacedChange)
                found.append(news.change.item.name)
        return found


@pytest.mark.parametrize("before", [1, PLACED_AT_ONCE, 2 * PLACED_AT_ONCE + 1])
async def test_what_waits_for_its_place_is_not_replayed(engine: AsyncEngine, before: int) -> None:
    await commit(engine, *(["before"] * before))
    feed = ChangeFeed(ChangeLog(engine), poll=0.02)
    async with background(feed.run()), AsyncExitStack() as stack:
        await (follower := Follower(feed)).begin(stack)
        await commit(engine, "after")
        assert await follower.names(1) == ["after"]


@pytest.mark.parametrize("kind", ["postgresql"], scope="session")
async def test_what_is_committed_late_comes_whenever_it_was_begun(engine: AsyncEngine, kind: str) -> None:
    feed = ChangeFeed(ChangeLog(engine), poll=0.02)
    item = NewItem(name="late", description="", sku=new_id(), quantity=1, price=1).become(new_id(), NOW)
    async with background(feed.run()), AsyncExitStack() as stack, engine.connect() as slow:
        await record(slow, [Change(ChangeKind.CREATED, item, NOW)])
        await commit(engine, "before")
        await (follower := Follower(feed)).begin(stack)
        await slow.commit()
        assert await follower.names(1) == ["late"]


@given(steps=st.lists(st.integers(1, 3) | st.just("follow"), max_size=8))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_everybody_sees_what_was_committed_after_they_began(engine: AsyncEngine, steps: list[int | str]) -> None:
    feed = ChangeFeed(ChangeLog(engine), poll=0.02)
    followers: list[tuple[Follower, int]] = []
    written: list[str] = []
    async with background(feed.run()), AsyncExitStack() as stack:
        for step in [*steps, "follow", 1]:
            if isinstance(step, int):
                more = [f"change {len(written) + number}" for number in range(step)]
                await commit(engine, *more)
                written += more
            else:
                await (follower := Follower(feed)).begin(stack)
                followers.append((follower, len(written)))
        for follower, begun in followers:
            assert await follower.names(len(written) - begun) == written[begun:]
