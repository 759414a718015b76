"""The way to Valkey, when it is there, away, and hanging."""

import asyncio
import os
import signal

import pytest
import pytest_asyncio
import structlog
from redis.exceptions import ResponseError

from grpc_common import valkey_link
from grpc_common.valkey_link import ValkeyAwayError, ValkeyPausedError, open_link
from localmesh.parts.valkey import SUPERUSER, Valkey


@pytest_asyncio.fixture
async def valkey(tmp_path):
    async with Valkey(tmp_path / "valkey") as server:
        yield server


@pytest_asyncio.fixture
async def link(valkey):
    async with open_link(valkey.url(SUPERUSER), connections=3, timeout=20, component="test") as link:
        yield link


async def test_what_is_answered_comes_back(link):
    assert await link.ask(link.client.ping) is True
    assert await link.answers()


async def test_no_more_are_at_it_than_there_are_connections(link):
    at_once = most = 0

    async def command():
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await link.client.ping()
        at_once -= 1

    await asyncio.gather(*(link.ask(command) for _ in range(50)))
    assert most == 3


async def test_after_a_failure_nobody_asks_until_the_pause_is_over_and_it_is_told_once(link, valkey, monkeypatch):
    monkeypatch.setattr(valkey_link, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(valkey_link, "LONGEST_PAUSE", 0.05)
    asked = 0

    async def command():
        nonlocal asked
        asked += 1
        return await link.client.ping()

    await valkey.stop()
    with structlog.testing.capture_logs() as lines:
        with pytest.raises(ValkeyAwayError):
            await link.ask(command)
        for _ in range(100):
            if link.paused_for > 0:
                before = asked
                with pytest.raises(ValkeyPausedError):
                    await link.ask(command)
                assert asked == before or link.paused_for <= 0
        async with asyncio.timeout(20):
            while asked < 4:
                with pytest.raises(ValkeyAwayError):
                    await link.ask(command)
                await asyncio.sleep(0.005)
        await valkey.start()
        async with asyncio.timeout(20):
            while True:
                try:
                    await link.ask(command)
                    break
                except ValkeyAwayError:
                    await asyncio.sleep(0.005)
        await link.ask(command)
    assert [line["event"] for line in lines] == ["Valkey fails: going on without it", "Valkey answers again"]


async def test_one_tries_again_and_the_others_do_not_wait(valkey, monkeypatch):
    monkeypatch.setattr(valkey_link, "FIRST_PAUSE", 0.05)
    async with open_link(valkey.url(SUPERUSER), connections=100, timeout=3, component="test") as link:
        await link.ask(link.client.ping)
        os.kill(valkey.unit.pid, signal.SIGSTOP)
        try:
            together = await asyncio.gather(*(link.ask(link.client.ping) for _ in range(50)), return_exceptions=True)
            assert not any(isinstance(each, ValkeyPausedError) for each in together)  # nobody knew
            assert link.paused_for <= 0.05  # as after one failure, not as after 50
            await asyncio.sleep(0.06)
            again = await asyncio.gather(*(link.ask(link.client.ping) for _ in range(50)), return_exceptions=True)
        finally:
            os.kill(valkey.unit.pid, signal.SIGCONT)
    assert all(isinstance(each, ValkeyAwayError) for each in together)
    assert sum(isinstance(each, ValkeyPausedError) for each in again) == 49


async def test_a_caller_without_patience_does_not_speak_for_valkey(link):
    with pytest.raises(ValkeyAwayError):
        await link.ask(lambda: asyncio.sleep(10), patience=0.01)
    assert link.paused_for <= 0
    assert await link.ask(link.client.ping)


async def test_a_refusal_is_a_failure_without_its_text(link):
    async def refuse():
        raise ResponseError("OOM command not allowed, key secret-name")

    with pytest.raises(ValkeyAwayError) as caught:
        await link.ask(refuse)
    assert "secret-name" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_what_the_command_does_wrong_is_its_own_error(link):
    async def wrong():
        raise KeyError("mine")

    with pytest.raises(KeyError):
        await link.ask(wrong)
    assert link.paused_for <= 0


async def test_health_is_asked_for_also_when_all_connections_are_in_use(link):
    taken = [asyncio.create_task(link.ask(lambda: link.client.blpop("nothing", timeout=1))) for _ in range(3)]
    await asyncio.sleep(0.1)
    for _ in range(3):
        assert await link.answers()
    assert not any(task.done() for task in taken)
    await asyncio.gather(*taken)
    assert link.paused_for <= 0
