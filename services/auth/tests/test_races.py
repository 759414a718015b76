"""What is taken away while somebody logs in, changes a password or administers stays taken away."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from people import NOW, a_client, a_user, an_admin, happened
from pydantic import SecretBytes, SecretStr
from served import settings_in
from sqlalchemy.ext.asyncio import AsyncEngine
from told import told

from auth.audit import Kind
from auth.caller import Caller
from auth.client import Client
from auth.credentials import Credentials
from auth.file_signer import FileSigner
from auth.key_ring import KeyRing
from auth.memory_guard import MemoryGuard
from auth.password import Cost, PasswordHasher
from auth.recorder import Recorder
from auth.refresh import RefreshRefusedError
from auth.ring_keys import RingKeys
from auth.signer import Algorithm, PublicKey
from auth.stores import Stores
from auth.transaction import nobody
from auth.turns import Turns
from auth.use_cases import UseCases
from grpc_common.errors import AbortedError, ForbiddenError, UnauthorizedError
from grpc_common.principal import Principal
from grpc_common.token_verifier import TokenVerifier

PASSWORD, OTHER = SecretStr("seven ducks in a quiet row"), SecretStr("eleven geese on a windy hill")
HERE = Caller("192.0.2.1")
ROOT = HERE.proved("root")


class SlowSigner:
    """The file's signer, which signs when it is let."""

    def __init__(self, signer: FileSigner) -> None:
        self._signer = signer
        self.asked = asyncio.Event()
        self.let = asyncio.Event()
        self.let.set()

    @property
    def name(self) -> str:
        return self._signer.name

    @property
    def algorithm(self) -> Algorithm:
        return self._signer.algorithm

    async def versions(self) -> Sequence[PublicKey]:
        return await self._signer.versions()

    async def sign(self, version: int, data: bytes) -> bytes:
        self.asked.set()
        await self.let.wait()
        return await self._signer.sign(version, data)

    async def rotate(self) -> None:
        await self._signer.rotate()

    async def retire(self, before: int) -> None:
        await self._signer.retire(before)


class Auth:
    """What the service does, on a database, with a signer that can be held up."""

    def __init__(self, signer: SlowSigner) -> None:
        self.does: UseCases
        self.stores: Stores
        self.signer = signer
        self.ahead = 0.0
        """Seconds by which the database's clock is ahead of the machine's."""

    def clock(self) -> float:
        return time.time() + self.ahead

    @asynccontextmanager
    async def login_under_way(self, client: Client | None = None) -> AsyncIterator["asyncio.Task[Any]"]:
        """A login that has proved itself and waits for its token until the block ends."""
        async with self.under_way(self.does.sessions.log_in("alice", PASSWORD, (), HERE, client)) as login:
            yield login

    @asynccontextmanager
    async def under_way(self, call: Coroutine[Any, Any, Any]) -> AsyncIterator["asyncio.Task[Any]"]:
        """A call that waits for its token until the block ends."""
        self.signer.asked.clear()
        self.signer.let.clear()
        task = asyncio.create_task(call)
        await self.signer.asked.wait()
        try:
            yield task
        finally:
            self.signer.let.set()


@pytest_asyncio.fixture
async def auth(engine: AsyncEngine, tmp_path: Path) -> AsyncIterator[Auth]:
    settings = settings_in(tmp_path)
    async with FileSigner(tmp_path / "keys", "access") as file, PasswordHasher(settings.cost) as hasher:
        signer = SlowSigner(file)
        ring = KeyRing(signer, settings.key_schedule)
        verifier = TokenVerifier([settings.trusted(RingKeys(ring))])
        auth = Auth(signer)
        auth.stores = stores = await Stores.sql(engine, nobody, auth.clock)
        guard = MemoryGuard(settings.guard_limits)
        auth.does = UseCases.of(settings, stores, ring, verifier, hasher, guard, [SecretBytes(bytes(32))])
        for user in (an_admin(id="root"), a_user("alice", ["admin"], id="alice")):
            await stores.users.add(
                type(user)(**{**_fields(user), "password_hash": await hasher.hash(PASSWORD)}),
                happened(Kind.USER_CREATED),
            )
        yield auth


def _fields(user: Any) -> dict[str, Any]:
    return {name: getattr(user, name) for name in user.__dataclass_fields__}


type Taking = Callable[[Auth], Awaitable[Any]]

TAKINGS: dict[str, Taking] = {
    "another password": lambda auth: auth.does.accounts.change_password("alice", PASSWORD, OTHER, HERE),
    "no right to log in": lambda auth: auth.does.accounts.set_disabled("alice", "", ROOT, disabled=True),
    "a role less": lambda auth: auth.does.accounts.set_roles("alice", [], "", ROOT),
}


@pytest.mark.parametrize("taking", TAKINGS)
async def test_a_login_under_way_does_not_outlive_it(auth: Auth, engine: AsyncEngine, taking: str) -> None:
    async with auth.login_under_way() as login:
        await TAKINGS[taking](auth)

    with pytest.raises(AbortedError):
        await login
    assert Kind.LOGGED_IN not in [event.kind for event in await told(engine)]


@pytest.mark.parametrize("taking", TAKINGS)
async def test_sessions_end_in_the_same_transaction(auth: Auth, engine: AsyncEngine, taking: str) -> None:
    sessions = [await auth.does.sessions.log_in("alice", PASSWORD, (), HERE) for _ in range(2)]
    await TAKINGS[taking](auth)

    for session in sessions:
        with pytest.raises(RefreshRefusedError):
            await auth.does.sessions.refresh(session.refresh.token, HERE)
        assert await auth.does.tokens.introspect(session.access.token) is None
    kinds = [event.kind for event in await told(engine)]
    assert kinds[-3:] == [kinds[-3], Kind.SESSION_REVOKED, Kind.SESSION_REVOKED]


async def test_the_session_a_password_is_changed_in_goes_on(auth: Auth) -> None:
    here, there = [await auth.does.sessions.log_in("alice", PASSWORD, (), HERE) for _ in range(2)]
    keep = here.refresh.family.id
    await auth.does.accounts.change_password("alice", PASSWORD, OTHER, HERE, keep=keep)

    assert await auth.does.sessions.refresh(here.refresh.token, HERE)
    with pytest.raises(RefreshRefusedError):
        await auth.does.sessions.refresh(there.refresh.token, HERE)


async def test_an_access_token_is_taken_back_once(auth: Auth, engine: AsyncEngine) -> None:
    session = await auth.does.sessions.log_in("alice", PASSWORD, (), HERE)
    for _ in range(3):
        await auth.does.tokens.revoke(session.access.token, HERE)

    assert await auth.does.tokens.introspect(session.access.token) is None
    assert [event.kind for event in await told(engine)].count(Kind.TOKEN_REVOKED) == 1
    assert await auth.does.sessions.refresh(session.refresh.token, HERE)


async def test_who_is_no_administrator_any_more_administers_nothing(auth: Auth) -> None:
    administrators = auth.does.administrators
    alice = Principal("alice", "auth", 2e9, frozenset({"admin"}), client_id="meshwork", session_id="s-1")
    assert await administrators.require(alice) == "alice"

    for taking in ("a role less", "no right to log in"):
        await TAKINGS[taking](auth)
        with pytest.raises(ForbiddenError):
            await administrators.require(alice)


async def test_nor_does_a_client_that_was_deleted(auth: Auth) -> None:
    administrators = auth.does.administrators
    robot = Principal("robot", "auth", 2e9, frozenset({"admin"}), client_id="robot")
    await auth.stores.clients.add(a_client("robot", roles=frozenset({"admin"})), happened(Kind.CLIENT_CREATED))
    assert await administrators.require(robot) == "robot"

    await auth.does.clients.delete("robot", ROOT)
    with pytest.raises(ForbiddenError):
        await administrators.require(robot)


async def test_the_sessions_that_a_client_began_end_with_it(auth: Auth) -> None:
    await auth.stores.clients.add(a_client("phone"), happened(Kind.CLIENT_CREATED))
    session = await auth.does.sessions.log_in("alice", PASSWORD, (), HERE, a_client("phone"))
    await auth.does.clients.delete("phone", ROOT)

    with pytest.raises(RefreshRefusedError):
        await auth.does.sessions.refresh(session.refresh.token, HERE, client_id="phone")


@pytest.mark.parametrize("again", [False, True])
async def test_a_login_under_way_does_not_outlive_its_client(auth: Auth, again: bool) -> None:
    secret = await auth.does.clients.create("phone", [], [], ROOT)
    phone = await auth.does.service_tokens.authenticate("phone", secret, HERE)
    async with auth.login_under_way(phone) as login:
        await auth.does.clients.delete("phone", ROOT)
        if again:
            await auth.does.clients.create("phone", [], [], ROOT)

    with pytest.raises(AbortedError):
        await login


async def test_nobody_administers_with_a_token_that_was_taken_back(auth: Auth) -> None:
    """Also where this process has not heard of it, and the subject is an administrator still, or again."""
    await auth.does.clients.create("robot", ["admin"], [], ROOT)
    robot = await auth.stores.clients.get("robot")
    assert robot is not None
    session = await auth.does.sessions.log_in("alice", PASSWORD, (), HERE)
    family = session.refresh.family.id
    stolen = [
        Principal("robot", "auth", 2e9, client_id="robot", session_id=robot.session_id),
        Principal("alice", "auth", 2e9, client_id="meshwork", session_id=family),
    ]
    for each in stolen:
        assert await auth.does.administrators.require(each) == each.subject
    await auth.does.clients.delete("robot", ROOT)
    await auth.does.clients.create("robot", ["admin"], [], ROOT)
    await auth.does.accounts.change_password("alice", PASSWORD, OTHER, HERE)
    for each in stolen:
        with pytest.raises(UnauthorizedError):
            await auth.does.administrators.require(each)


async def test_a_repeat_that_came_in_time_is_answered_however_slow_the_signer_is(auth: Auth) -> None:
    session = await auth.does.sessions.log_in("alice", PASSWORD, (), HERE)
    first = await auth.does.sessions.refresh(session.refresh.token, HERE)
    async with auth.under_way(auth.does.sessions.refresh(session.refresh.token, HERE)) as repeat:
        auth.ahead = 11

    assert (await repeat).refresh.token == first.refresh.token
    with pytest.raises(RefreshRefusedError):
        await auth.does.sessions.refresh(session.refresh.token, HERE)


@pytest.mark.parametrize("ahead", [-1100, 60])
async def test_what_takes_a_session_back_is_stamped_as_its_tokens_are(
    auth: Auth, engine: AsyncEngine, ahead: float
) -> None:
    """By this machine's clock: or else it would be told too late, or be over before they are."""
    auth.ahead = ahead
    session = await auth.does.sessions.log_in("alice", PASSWORD, (), HERE)
    await auth.does.sessions.log_out(session.refresh.token, HERE)

    assert await auth.stores.revocations.holds(session.refresh.family.id, issued_at=None)
    assert (await told(engine))[-1].at.timestamp() <= time.time()


async def test_the_tokens_of_a_client_end_with_it_and_not_those_of_who_gets_its_id(auth: Auth) -> None:
    tokens = []
    for _ in range(2):
        secret = await auth.does.clients.create("robot", ["admin"], [], ROOT)
        for each in tokens:
            assert await auth.does.tokens.introspect(each) is None
        tokens.append((await auth.does.service_tokens.issue("robot", secret, (), HERE)).access.token)
        assert await auth.does.tokens.introspect(tokens[-1])
        await auth.does.clients.delete("robot", ROOT)
        assert await auth.does.tokens.introspect(tokens[-1]) is None


async def test_giving_up_in_the_queue_counts_as_nothing(auth: Auth, tmp_path: Path) -> None:
    """Nobody is locked out because the service was slow."""
    settings, turns = settings_in(tmp_path), Turns(at_once=1, waiting=100)
    async with PasswordHasher(settings.cost) as hasher:
        guard, recorder = MemoryGuard(settings.guard_limits), Recorder(auth.stores.audit, lambda: NOW)
        credentials = Credentials(auth.stores.users, hasher, turns, guard, recorder)
        async with turns.turn():
            for _ in range(3 * settings.guard_failures):
                waiting = asyncio.create_task(credentials.prove("alice", PASSWORD, HERE))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)

        assert (await credentials.prove("alice", PASSWORD, HERE)).id == "alice"


async def test_logins_at_once_whose_hash_is_outdated_all_succeed(auth: Auth) -> None:
    async with PasswordHasher(Cost(passes=2, memory=2048)) as before:
        outdated = await before.hash(PASSWORD)
    alice = await auth.stores.users.get("alice")
    assert alice is not None
    assert await auth.stores.users.rehash("alice", alice.password_hash, outdated)

    logins = [auth.does.sessions.log_in("alice", PASSWORD, (), HERE) for _ in range(4)]
    assert all(await asyncio.gather(*logins))
    kept = await auth.stores.users.get("alice")
    assert kept is not None
    assert kept.password_hash != outdated
