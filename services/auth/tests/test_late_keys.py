"""A key that the ring learns of late, or hears of twice in the wrong order: nobody signs with what few have seen."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from auth.file_signer import FileSigner
from auth.key_ring import KeyRing
from auth.key_schedule import KeySchedule
from auth.signer import PublicKey
from grpc_common.errors import ExternalServiceError
from grpc_common.fixed_clock import FixedClock

SCHEDULE = KeySchedule(period=10_000, ahead=100, lifetime=600, leeway=120)


class Distant(FileSigner):
    """A signer whose keys cannot be read for a while, and whose first answer, where it is held back, comes last."""

    out_of_reach = False
    held_back: asyncio.Event | None = None

    async def versions(self) -> Sequence[PublicKey]:
        if self.out_of_reach:
            raise ExternalServiceError("away")
        found = await super().versions()
        wait, self.held_back = self.held_back, None
        if wait is not None:
            await wait.wait()
        return found


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(1_800_000_000)


@pytest_asyncio.fixture
async def signer(tmp_path: Path, clock: FixedClock) -> AsyncIterator[Distant]:
    async with Distant(tmp_path / "keys", "dev", clock=clock) as signer:
        yield signer


@pytest.fixture
def ring(signer: Distant, clock: FixedClock) -> KeyRing:
    return KeyRing(signer, SCHEDULE, refresh=10, clock=clock)


async def number_of(signer: FileSigner, kid: str) -> int:
    (number,) = [each.version for each in await FileSigner.versions(signer) if each.kid == kid]
    return number


async def published(ring: KeyRing, signer: FileSigner) -> list[int]:
    return [await number_of(signer, key["kid"]) for key in (await ring.jwk_set())["keys"]]


async def signing(ring: KeyRing, signer: FileSigner) -> int:
    header, *_ = (await ring.sign({})).split(".")
    return await number_of(signer, json.loads(base64.urlsafe_b64decode(header + "=="))["kid"])


async def test_it_is_published_for_as_long_before_it_signs(ring: KeyRing, signer: Distant, clock: FixedClock) -> None:
    await ring.jwk_set()
    signer.out_of_reach = True
    await signer.rotate()
    for _ in range(9):
        clock.advance(10)
        assert await published(ring, signer) == [1]
    signer.out_of_reach = False
    clock.advance(10)

    for wait, number in ((0, 1), (89, 1), (1, 2)):
        clock.advance(wait)
        assert await signing(ring, signer) == number
        assert await published(ring, signer) == [1, 2]


async def test_operators_are_told_of_a_new_key_and_not_of_those_there_at_the_start(
    signer: Distant, clock: FixedClock
) -> None:
    await signer.versions()
    clock.advance(5000)
    with capture_logs() as lines:
        ring = KeyRing(signer, SCHEDULE, refresh=10, clock=clock)
        assert await published(ring, signer) == [1]
        assert "signing key published" not in [line["event"] for line in lines]
        await signer.rotate()
        clock.advance(25)
        assert await published(ring, signer) == [1, 2]
    (told,) = [line for line in lines if line["event"] == "signing key published"]
    assert (await number_of(signer, told["kid"]), told["seconds_late"]) == (2, 15)


async def test_who_learns_of_it_too_late_signs_with_it_at_once(
    ring: KeyRing, signer: Distant, clock: FixedClock
) -> None:
    await ring.jwk_set()
    signer.out_of_reach = True
    await signer.rotate()
    clock.advance(2 * SCHEDULE.ahead)
    signer.out_of_reach = False

    assert await signing(ring, signer) == 2


async def test_an_answer_that_comes_after_a_later_one_takes_no_key_away(ring: KeyRing, signer: Distant) -> None:
    signer.held_back = held_back = asyncio.Event()
    slow = asyncio.create_task(ring.answers())
    await asyncio.sleep(0)
    await ring.rotate()
    held_back.set()
    await slow

    assert await published(ring, signer) == [1, 2]
