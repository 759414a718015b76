"""Guessing at the whole service, with a Valkey that two replicas share."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import pytest_asyncio
from pydantic import SecretStr
from served import BOOTSTRAP, serving

from grpc_common.settings import GRPCServerSettings
from grpc_common.testing import bearer
from localmesh.parts.valkey import Valkey
from meshwork.auth.v1 import auth_service_pb2 as pb

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceAsyncStub as Stub

PASSWORD = "seven ducks in a quiet row"
WRONG = "eleven geese on a windy hill"
type Answer = tuple[grpc.StatusCode, str]
REFUSED: Answer = (grpc.StatusCode.UNAUTHENTICATED, "the user name or the password is wrong")
OK: Answer = (grpc.StatusCode.OK, "")


@pytest_asyncio.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path / "valkey", users=["auth"]) as server:
        yield server


@pytest_asyncio.fixture
async def replicas(tmp_path: Path, valkey: Valkey) -> AsyncIterator[tuple["Stub", "Stub"]]:
    """Two of them on one database; `ada` and `grace` are users."""
    settings = {"cache_url": SecretStr(valkey.url("auth")), "registration": True, "guard_address_burst": 10_000}
    async with serving(tmp_path, **settings) as one, serving(tmp_path, **settings) as other:
        await one.BootstrapAdmin(pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="root", password=PASSWORD))
        for name in ("ada", "grace"):
            await one.Register(pb.RegisterRequest(username=name, password=PASSWORD))
        yield one, other


async def log_in(auth: "Stub", username: str, password: str, where: Any = None) -> Answer:
    return await outcome(auth.Login(pb.LoginRequest(username=username, password=password), timeout=60, metadata=where))


async def outcome(call: Any) -> Answer:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return OK


async def test_an_account_that_was_guessed_at_is_locked_at_all_replicas_with_the_same_answer(
    replicas: tuple["Stub", "Stub"],
) -> None:
    """R4: a locked account, one that nobody has and a wrong password are answered alike."""
    one, other = replicas
    for name in ("ada", "nobody"):
        assert [await log_in(replicas[number % 2], name, WRONG) for number in range(10)] == [REFUSED] * 10
        assert await log_in(one, name, PASSWORD) == REFUSED
        assert await log_in(other, name, PASSWORD) == REFUSED
    assert await log_in(one, "grace", PASSWORD) == OK


async def test_many_guesses_at_once_are_no_more_than_a_few(replicas: tuple["Stub", "Stub"]) -> None:
    answers = await asyncio.gather(*(log_in(replicas[number % 2], "ada", WRONG) for number in range(100)))
    assert REFUSED in answers
    assert {code for code, _ in answers} <= {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert await log_in(replicas[0], "ada", PASSWORD) == REFUSED


async def test_right_passwords_at_once_are_not_called_wrong(replicas: tuple["Stub", "Stub"]) -> None:
    answers = Counter(
        code
        for code, _ in await asyncio.gather(*(log_in(replicas[number % 2], "ada", PASSWORD) for number in range(60)))
    )
    assert answers[grpc.StatusCode.OK] >= 10
    assert set(answers) <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert await log_in(replicas[0], "ada", PASSWORD) == OK


async def test_the_owner_of_an_account_under_attack_changes_the_password_and_logs_in(
    tmp_path: Path, valkey: Valkey
) -> None:
    home, train, attacker = [[("x-forwarded-for", f"203.0.113.{number}")] for number in (1, 2, 3)]
    behind_mesh = GRPCServerSettings(enabled=True, port=0, plaintext="behind-mesh")
    settings = {"cache_url": SecretStr(valkey.url("auth")), "registration": True, "guard_failures": 3}
    async with serving(tmp_path, grpc=behind_mesh, **settings) as auth:
        await auth.Register(pb.RegisterRequest(username="ada", password=PASSWORD))
        session = await auth.Login(pb.LoginRequest(username="ada", password=PASSWORD), metadata=home)
        assert [await log_in(auth, "ada", WRONG, attacker) for _ in range(3)] == [REFUSED] * 3
        assert await log_in(auth, "ada", PASSWORD, train) == REFUSED

        # Who carries a session on there is at home there.
        session = await auth.Refresh(pb.RefreshRequest(refresh_token=session.refresh_token), metadata=train)
        assert await log_in(auth, "ada", PASSWORD, train) == OK
        assert await log_in(auth, "ada", PASSWORD, attacker) == REFUSED

        # Who is in a session changes the password, from wherever.
        mine = [*bearer(session.access_token), *attacker]
        kept = session.family_id
        change = pb.ChangePasswordRequest(current_password=PASSWORD, new_password=WRONG, family_id=kept)
        await auth.ChangePassword(change, metadata=mine)

        # A stolen session guesses no more than anybody else.
        assert [await outcome(auth.ChangePassword(change, metadata=mine)) for _ in range(3)] == [REFUSED] * 3
        right = pb.ChangePasswordRequest(current_password=WRONG, new_password=PASSWORD, family_id=kept)
        assert await outcome(auth.ChangePassword(right, metadata=mine)) == REFUSED
        assert await log_in(auth, "ada", WRONG, home) == OK


async def test_a_program_with_an_old_secret_holds_up_nobody_else_at_its_address(tmp_path: Path, valkey: Valkey) -> None:
    settings = {"cache_url": SecretStr(valkey.url("auth")), "guard_address_burst": 5, "guard_address_rate": 0.01}
    async with serving(tmp_path, **settings) as auth:
        await auth.BootstrapAdmin(pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="root", password=PASSWORD))
        root = bearer((await auth.Login(pb.LoginRequest(username="root", password=PASSWORD))).access_token)
        client = await auth.CreateClient(pb.CreateClientRequest(client_id="good"), metadata=root)
        await auth.CreateUser(pb.CreateUserRequest(username="ada", password=PASSWORD), metadata=root)
        codes = []
        for _ in range(8):
            stale = pb.IssueServiceTokenRequest(client_id="good", client_secret="an old one")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await auth.IssueServiceToken(stale)
            codes.append(caught.value.code())
        assert codes == [grpc.StatusCode.UNAUTHENTICATED] * 5 + [grpc.StatusCode.RESOURCE_EXHAUSTED] * 3

        assert await log_in(auth, "ada", PASSWORD) == OK
        right = pb.IssueServiceTokenRequest(client_id="good", client_secret=client.client_secret)
        assert (await auth.IssueServiceToken(right)).access_token
        for number in range(5):  # now users' wrong passwords, which hold up those who are new here
            assert await log_in(auth, f"nobody-{number}", WRONG) == REFUSED
        assert (await log_in(auth, "newcomer", PASSWORD))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await log_in(auth, "ada", PASSWORD) == OK
        assert await log_in(auth, "root", PASSWORD) == OK


async def test_without_valkey_logins_go_on_and_guessing_does_not(
    replicas: tuple["Stub", "Stub"], valkey: Valkey
) -> None:
    one, _ = replicas
    assert await log_in(one, "ada", PASSWORD) == OK
    os.kill(valkey.unit.pid, signal.SIGKILL)
    assert await log_in(one, "ada", PASSWORD) == OK
    assert [await log_in(one, "grace", WRONG) for _ in range(10)] == [REFUSED] * 10
    assert await log_in(one, "grace", PASSWORD) == REFUSED
    assert await log_in(one, "ada", PASSWORD) == OK
