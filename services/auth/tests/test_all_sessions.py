"""All sessions ended at once: none lives again that had ended before the database was restored."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import jwt
import pytest
import pytest_asyncio
from begun import begun
from people import NOW, happened
from pydantic import SecretBytes, SecretStr
from redis.asyncio import Redis
from served import BOOTSTRAP, serving, settings_in
from sqlalchemy.ext.asyncio import AsyncEngine
from told import told

from auth import main
from auth.access_token import AccessTokens, Grant
from auth.all_sessions import AllSessions
from auth.audit import Kind
from auth.end_sessions import end_sessions
from auth.file_signer import FileSigner
from auth.key_ring import KeyRing
from auth.key_schedule import KeySchedule
from auth.migrate import MIGRATIONS
from auth.refresh import Lifetimes, RefreshRefusedError, RefreshTokens
from auth.revoked import CLOCKS_DIFFER
from auth.sql_families import SqlFamilies
from auth.sql_revocations import SqlRevocations
from grpc_common.background import background
from grpc_common.claims import LEEWAY, read_claims
from grpc_common.database.engine import Limits, open_engine
from grpc_common.errors import DatabaseError
from grpc_common.fixed_clock import FixedClock
from grpc_common.principal import Principal
from grpc_common.revocation_stream import RevocationStream
from grpc_common.revocations import IssuedUntil, Revocations
from grpc_common.testing import bearer
from localmesh import child
from localmesh.fixtures import NewDatabase
from localmesh.parts.valkey import SUPERUSER, Valkey
from meshwork.auth.v1 import auth_service_pb2 as pb

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceAsyncStub as Stub

PASSWORD = "seven ducks in a quiet row"
LIFETIMES = Lifetimes(absolute=500, idle=100, grace=10)
SECRET = SecretBytes(bytes(32))
ENDED = happened(Kind.ALL_SESSIONS_ENDED)
UNTIL = NOW.timestamp() + CLOCKS_DIFFER


@pytest.fixture
def tokens(engine: AsyncEngine, clock: FixedClock) -> RefreshTokens:
    return RefreshTokens(SqlFamilies(engine), [SECRET], LIFETIMES, clock=clock, wall=clock)


async def test_every_session_there_is_has_ended_and_later_ones_live(tokens: RefreshTokens, engine: AsyncEngine) -> None:
    sessions, heard = AllSessions(engine), []
    before = [await begun(tokens, subject, client) for subject in ("alice", "bob") for client in ("meshwork", "shop")]
    used = await tokens.refresh(before[0].token)

    await AllSessions(engine, partial(heard.append, "changed")).end(ENDED)
    after = await begun(tokens, "alice", "meshwork")

    for token in (used, *before):
        with pytest.raises(RefreshRefusedError):
            await tokens.refresh(token.token)
        assert await tokens.find(token.token) is None
        family = await tokens.family(token.family.id)
        assert family is not None
        assert family.revoked == "all_ended"
        assert not await tokens.revoke(token.family.id, "administrator")
    assert (await tokens.refresh(after.token)).family.generation == 1
    assert await told(engine) == [ENDED]
    assert heard == ["changed"]
    await sessions.end(ENDED)
    with pytest.raises(RefreshRefusedError):
        await tokens.refresh(after.token)


async def test_why_a_session_ended_first_stays(tokens: RefreshTokens, engine: AsyncEngine) -> None:
    session = await begun(tokens, "alice", "meshwork")
    await tokens.revoke(session.family.id, "reused")
    await AllSessions(engine).end(ENDED)

    family = await tokens.family(session.family.id)

    assert family is not None
    assert family.revoked == "reused"


async def test_a_refresh_at_the_same_moment_gets_no_session_that_lives_on(
    tokens: RefreshTokens, engine: AsyncEngine
) -> None:
    several = [await begun(tokens, "alice", "meshwork") for _ in range(10)]

    outcomes = await asyncio.gather(
        *(tokens.refresh(each.token) for each in several), AllSessions(engine).end(ENDED), return_exceptions=True
    )

    for issued in [*several, *(each for each in outcomes if not isinstance(each, BaseException | None))]:
        with pytest.raises(RefreshRefusedError):
            await tokens.refresh(issued.token)


async def test_access_tokens_issued_until_then_are_taken_back_wherever_it_is_asked(engine: AsyncEngine) -> None:
    clock = FixedClock(UNTIL)
    revocations = SqlRevocations(engine, clock)
    assert not await revocations.holds("t-1", "s-1", issued_at=0)
    await AllSessions(engine).end(ENDED)
    await AllSessions(engine).end(replace(ENDED, at=NOW.replace(year=2025)))  # an earlier end takes nothing back

    assert await revocations.holds("t-1", "", issued_at=UNTIL)
    assert await revocations.holds(issued_at=None)
    assert not await revocations.holds("t-1", "s-1", issued_at=UNTIL + 1)
    assert await revocations.recent() == [IssuedUntil(UNTIL)]
    clock.advance(900 + 120)
    assert await revocations.recent() == []


@pytest.mark.parametrize("seconds_until", [-5.0, 0.0, 0.5, CLOCKS_DIFFER])
async def test_who_logs_in_at_once_has_a_token_that_counts(tmp_path: Path, seconds_until: float) -> None:
    clock, revocations = FixedClock(1_800_000_000.7), Revocations()
    revocations.revoke_issued_until(clock.now + seconds_until)
    async with FileSigner(tmp_path / "keys", "dev", clock=clock) as signer:
        ring = KeyRing(signer, KeySchedule(), clock=clock)
        known: Any = {"issuer": "https://a.test", "audience": "mesh", "clock": clock}
        tokens = AccessTokens(ring, **known, taken_back_until=lambda: revocations.issued_until)
        issued = await tokens.issue(Grant("alice", "web"))

    claims = claims_of(issued.token)
    principal = read_claims(claims, audience="mesh", now=clock.now, leeway=LEEWAY)
    assert not revocations.covers(principal)
    assert claims["exp"] == claims["nbf"] + 600 == int(clock.now) + 600


def claims_of(token: SecretStr) -> dict[str, Any]:
    return jwt.decode(token.get_secret_value(), options={"verify_signature": False})


async def test_families_from_before_the_migration_live_and_those_that_ended_stay_so(
    new_database: NewDatabase, limits: Limits, clock: FixedClock
) -> None:
    url = await new_database()
    await MIGRATIONS.upgrade(url)
    async with open_engine(url, limits) as engine:
        tokens = RefreshTokens(SqlFamilies(engine), [SECRET], LIFETIMES, clock=clock, wall=clock)
        old = await begun(tokens, "alice", "meshwork")
        await AllSessions(engine).end(ENDED)
        new = await begun(tokens, "alice", "meshwork")
    await MIGRATIONS.downgrade(url, "0002")
    await MIGRATIONS.upgrade(url)
    async with open_engine(url, limits) as engine:
        tokens = RefreshTokens(SqlFamilies(engine), [SECRET], LIFETIMES, clock=clock, wall=clock)
        with pytest.raises(RefreshRefusedError):
            await tokens.refresh(old.token)
        assert await tokens.refresh(new.token)


async def answer[T](ask: Callable[[], Awaitable[T]]) -> T:
    """What comes of a call that may be repeated, however busy the machine is."""
    async with asyncio.timeout(120):
        while True:
            try:
                return await ask()
            except grpc.aio.AioRpcError as error:
                if error.code() not in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}:
                    raise


async def status_of(ask: Callable[[], Awaitable[Any]]) -> str:
    try:
        await answer(ask)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


def copy_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("auth.db*")}


def restore(folder: Path, backup: dict[str, bytes]) -> None:
    for file in folder.glob("auth.db*"):
        file.unlink()
    for name, content in backup.items():
        (folder / name).write_bytes(content)


async def logged_in(auth: "Stub") -> pb.TokenPair:
    return await answer(lambda: auth.Login(pb.LoginRequest(username="root", password=PASSWORD)))


async def who_has(auth: "Stub", tokens: pb.TokenPair) -> str:
    """How a call with the access token ends."""
    return await status_of(lambda: auth.GetUser(pb.GetUserRequest(id="me"), metadata=bearer(tokens.access_token)))


class TestRestore:
    """A database as it was: what ended since lives again, until the command is run."""

    @pytest_asyncio.fixture
    async def valkey(self, tmp_path: Path) -> AsyncIterator[Valkey]:
        async with Valkey(tmp_path / "valkey") as server:
            yield server

    @pytest.mark.parametrize("running", [False, True])
    async def test_sessions_that_had_ended_do_not_live_again(self, tmp_path: Path, running: bool) -> None:
        url = f"sqlite+aiosqlite:///{tmp_path}/auth.db"
        end = partial(child.start, "auth.end_sessions", tmp_path, AUTH_DATABASE_URL=url)
        async with serving(tmp_path) as auth:
            await auth.BootstrapAdmin(pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="root", password=PASSWORD))
            ended = await logged_in(auth)
        backup = copy_of(tmp_path)
        async with serving(tmp_path) as auth:
            logout = pb.LogoutRequest(refresh_token=ended.refresh_token)
            await answer(lambda: auth.Logout(logout))
            lost = await logged_in(auth)
        restore(tmp_path, backup)

        if not running:
            assert await child.end_of(await end()) == (0, [])
        async with serving(tmp_path) as auth:
            if running:
                # This is what the command is for: what was taken back has been forgotten.
                assert await who_has(auth, ended) == "OK"
                assert await child.end_of(await end()) == (0, [])
            for tokens in (ended, lost):
                refresh = pb.RefreshRequest(refresh_token=tokens.refresh_token)
                assert await status_of(partial(auth.Refresh, refresh)) == "UNAUTHENTICATED"
                async with asyncio.timeout(60):
                    while await who_has(auth, tokens) == "OK":  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                assert await who_has(auth, tokens) == "UNAUTHENTICATED"
            again = await logged_in(auth)
            assert await who_has(auth, again) == "OK"
            assert await answer(lambda: auth.Refresh(pb.RefreshRequest(refresh_token=again.refresh_token)))

    async def test_every_service_hears_of_it_at_once_and_again_when_the_stream_was_lost(
        self, tmp_path: Path, valkey: Valkey
    ) -> None:
        settings = settings_in(tmp_path, revocations_url=SecretStr(valkey.url(SUPERUSER)))
        await MIGRATIONS.upgrade(settings.database_url.get_secret_value())
        items, later = Revocations(), Revocations()
        before = Principal("alice", "auth", time.time() + 600, issued_at=time.time())
        async with RevocationStream(valkey.url(SUPERUSER)) as stream, background(stream.follow(items)):
            async with asyncio.timeout(30):
                await stream.caught_up()
                said = await end_sessions(settings)
                while not items.covers(before):  # noqa: ASYNC110  # nobody says when
                    await asyncio.sleep(0.02)
        assert said.endswith("refused by every service.")

        async with Redis.from_url(valkey.url(SUPERUSER)) as client:
            await client.flushall()
        async with (
            main.build(settings) as application,
            RevocationStream(valkey.url(SUPERUSER)) as ours,
            background(ours.follow(Revocations(), application.restore_revocations)),
            RevocationStream(valkey.url(SUPERUSER)) as stream,
            background(stream.follow(later)),
            asyncio.timeout(30),
        ):
            assert application.verifier is not None
            assert application.verifier.revocations.covers(before)
            while not later.covers(before):  # noqa: ASYNC110  # nobody says when
                await asyncio.sleep(0.02)

    async def test_without_a_valkey_it_says_who_will_tell_the_services(self, tmp_path: Path) -> None:
        settings = settings_in(tmp_path)
        await MIGRATIONS.upgrade(settings.database_url.get_secret_value())

        assert "as soon as auth runs and tells them (AUTH_REVOCATIONS_URL is not set)" in await end_sessions(settings)

    async def test_a_database_that_is_not_migrated_is_left_alone(self, tmp_path: Path) -> None:
        with pytest.raises(DatabaseError, match=r"run python -m auth\.migrate first"):
            await end_sessions(settings_in(tmp_path))
