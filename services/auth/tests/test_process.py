"""The service as a process of its own: how it starts, what it keeps, what it says when it cannot."""

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from served import BOOTSTRAP

from auth import main
from grpc_common.testing import bearer
from localmesh import child, ports
from meshwork.auth.v1 import auth_service_pb2 as pb
from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceStub

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceAsyncStub as Stub

PASSWORD = "seven ducks in a quiet row"


@asynccontextmanager
async def serving(grpc_port: int, http_port: int, folder: Path, **settings: str) -> AsyncIterator["Stub"]:
    ports = {"AUTH_GRPC__PORT": str(grpc_port), "AUTH_HTTP__PORT": str(http_port)}
    target = f"127.0.0.1:{grpc_port}"
    async with child.serving(main.__name__, target, folder, **ports, **settings) as channel:
        yield AuthServiceStub(channel)


async def test_alone_it_makes_all_it_needs_and_finds_it_again(tmp_path: Path) -> None:
    grpc_port, http_port = ports.free_port(), ports.free_port()
    alone = partial(serving, grpc_port, http_port, tmp_path, AUTH_BOOTSTRAP_SECRET=BOOTSTRAP)
    async with alone() as auth:
        await auth.BootstrapAdmin(pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="root", password=PASSWORD))
        tokens = await auth.Login(pb.LoginRequest(username="root", password=PASSWORD))
        keys = await _keys(http_port)

    for name in ("auth-keys.json", "auth-refresh"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    async with alone() as auth:
        assert await _keys(http_port) == keys
        me = await auth.GetUser(pb.GetUserRequest(id="me"), metadata=bearer(tokens.access_token))
        assert me.username == "root"
        assert await auth.Refresh(pb.RefreshRequest(refresh_token=tokens.refresh_token))


async def test_a_key_made_by_command_is_published_at_once(tmp_path: Path) -> None:
    grpc_port, http_port = ports.free_port(), ports.free_port()
    async with serving(grpc_port, http_port, tmp_path, AUTH_BOOTSTRAP_SECRET=BOOTSTRAP) as auth:
        await auth.BootstrapAdmin(pb.BootstrapAdminRequest(secret=BOOTSTRAP, username="root", password=PASSWORD))
        tokens = await auth.Login(pb.LoginRequest(username="root", password=PASSWORD))
        before = await _keys(http_port)
        made = await auth.RotateSigningKey(pb.RotateSigningKeyRequest(), metadata=bearer(tokens.access_token))

        *known, newest = await _keys(http_port)
        assert (known, newest["kid"]) == (before, made.key_id)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("AUTH_AUTH__JWKS", "https://elsewhere.test/jwks.json", "verifies with its own keys"),
        ("AUTH_KEY_AHEAD", "30", "KEY_AHEAD must be longer than KEY_READ"),
        ("AUTH_BOOTSTRAP_SECRET", "hunter2", "BOOTSTRAP_SECRET must have 32 to 256 characters"),
        ("AUTH_AUTH__AUDIENCE", "", "set both"),
        ("AUTH_REFRESH_SECRETS", "hunter2", "AUTH_REFRESH_SECRETS is not valid; its value is secret and not shown."),
        (
            "AUTH_VAULT_URL",
            "http://127.0.0.1:1",
            "VAULT_URL needs a way to log in: VAULT_ROLE_ID, or VAULT_KUBERNETES_ROLE",
        ),
        ("AUTH_TOKEN_LIFETIME", "3600", "less than or equal to 900"),
        ("AUTH_BOOTSTRAP", "x", "did you mean AUTH_BOOTSTRAP_SECRET?"),
    ],
)
async def test_settings_that_cannot_be_are_told_in_a_line(tmp_path: Path, setting: str, value: str, said: str) -> None:
    status, lines = await child.end_of(await child.start(main.__name__, tmp_path, **{setting: value}))

    assert status == 2
    assert len(lines) == 1
    assert said in lines[0]
    assert "hunter2" not in lines[0]


@pytest.mark.parametrize("name", ["auth-keys.json", "auth-refresh"])
async def test_a_secret_that_others_may_read_is_not_used(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("hunter2")
    (tmp_path / name).chmod(0o644)

    status, lines = await child.end_of(await child.start(main.__name__, tmp_path))

    assert status == 1
    assert "others may read" in child.reason(lines)
    assert "hunter2" not in "".join(lines)


async def _keys(port: int) -> list[dict[str, str]]:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"http://127.0.0.1:{port}/.well-known/jwks.json")
    keys: list[dict[str, str]] = answer.json()["keys"]
    return keys
