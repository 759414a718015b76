"""The whole service on a SQLite file and a file of keys, over a socket and through the standard chain."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from auth.main import build
from auth.settings import AuthServiceSettings, IssuerSettings
from grpc_common.application import Application
from grpc_common.chain import Chain
from grpc_common.default_chain import default_interceptors
from grpc_common.testing import in_process
from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceStub

if TYPE_CHECKING:  # there is no such class at run time
    from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceAsyncStub

BOOTSTRAP = "a one-time secret that is long enough"
NAMED = {"auth": IssuerSettings(issuer="https://auth.test", audience="meshwork")}
"""Who serves beyond loopback has a name."""
CHEAP = {"password_passes": 1, "password_memory": 1024}
"""Hashes that take a millisecond."""
PATIENT = {"database_pool_timeout": 10, "database_statement_timeout": 20}
"""Calls wait for the database also on a busy machine."""


def settings_in(folder: Path, **settings: Any) -> AuthServiceSettings:
    """Settings of a service that keeps everything in the folder."""
    return AuthServiceSettings(
        database_url=SecretStr(f"sqlite+aiosqlite:///{folder}/auth.db"),
        key_file=folder / "keys.json",
        refresh_file=folder / "refresh",
        bootstrap_secret=SecretStr(BOOTSTRAP),
        **{**NAMED, **CHEAP, **PATIENT, **settings},
    )


@asynccontextmanager
async def serving(folder: Path, **settings: Any) -> AsyncIterator["AuthServiceAsyncStub"]:
    """Yield a client of the service."""
    async with build(settings_in(folder, **settings)) as application, calling(application) as auth:
        yield auth


@asynccontextmanager
async def calling(application: Application) -> AsyncIterator["AuthServiceAsyncStub"]:
    """Yield a client of a service that is put together already."""
    verifier = application.verifier
    assert verifier is not None
    chain = Chain(default_interceptors(jwt_service=verifier, revocations=verifier.revocations))
    async with in_process(application.register, [chain]) as channel:
        yield AuthServiceStub(channel)
