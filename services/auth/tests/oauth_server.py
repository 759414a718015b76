"""OAuth's endpoints on a real server: the use cases on a SQLite file, a key in another; one user, three clients."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from people import a_client, a_user, happened
from pydantic import SecretBytes, SecretStr
from served import settings_in
from sqlalchemy.ext.asyncio import AsyncEngine

from auth.audit import Kind
from auth.client import hash_of
from auth.file_signer import FileSigner
from auth.http import http_app
from auth.key_ring import KeyRing
from auth.memory_guard import MemoryGuard
from auth.migrate import MIGRATIONS
from auth.password import PasswordHasher
from auth.ring_keys import RingKeys
from auth.settings import IssuerSettings
from auth.signer import Signer
from auth.stores import Stores
from auth.transaction import nobody
from auth.use_cases import UseCases
from grpc_common.database.engine import open_engine
from grpc_common.http_server import HTTPServer
from grpc_common.http_settings import HTTPServerSettings
from grpc_common.token_verifier import TokenVerifier

ANYWHERE = HTTPServerSettings(enabled=True, port=0)
ISSUER = "https://auth.example"
AUDIENCE = "meshwork"
PASSWORD = "correct horse: battery & staple=100%"
SECRET = "s3cr:t+with/what%must&be=encoded ö"
STOCK_SECRET = "hZr0-Gk3_sYbq7v9c1nXw2mLdPf6tAjUoE4iRz8yQ5M"
"""As the service makes them: nothing in it needs to be encoded."""
USER_SCOPES = frozenset({"items:read", "items:write"})


@dataclass(frozen=True, slots=True)
class OAuth:
    """The server, and what stands behind it."""

    url: str
    engine: AsyncEngine
    ring: KeyRing
    verifier: TokenVerifier

    @property
    def token(self) -> str:
        return f"{self.url}/oauth2/token"

    @property
    def revoke(self) -> str:
        return f"{self.url}/oauth2/revoke"

    @property
    def introspect(self) -> str:
        return f"{self.url}/oauth2/introspect"

    @property
    def jwks(self) -> str:
        return f"{self.url}/.well-known/jwks.json"


@asynccontextmanager
async def serving(
    folder: Path,
    signer: Signer | None = None,
    *,
    where: HTTPServerSettings = ANYWHERE,
    issuer: str = ISSUER,
    guard_address_burst: int = 10_000,
    clock: Callable[[], float] = time.time,
    **how: Any,
) -> AsyncIterator[OAuth]:
    """Serve alice, and the clients `billing`, which has the SECRET, `watcher`, which has it too and may introspect, and
    `stock`, which may as well. `clock` is that of the keys.
    """
    settings = settings_in(
        folder,
        auth=IssuerSettings(issuer=issuer, audience=AUDIENCE),
        user_scopes=tuple(USER_SCOPES),
        http=where,
        guard_address_burst=guard_address_burst,
        **{"password_grant": True, **how},
    )
    url = settings.database_url.get_secret_value()
    await MIGRATIONS.upgrade(url)
    async with (
        open_engine(url, settings.database_limits) as engine,
        FileSigner(settings.key_file, "access") as file_signer,
        PasswordHasher(settings.cost) as hasher,
    ):
        ring = KeyRing(signer or file_signer, settings.key_schedule, clock=clock)
        verifier = TokenVerifier([settings.trusted(RingKeys(ring))])
        stores = await Stores.sql(engine, nobody, time.time)
        guard = MemoryGuard(settings.guard_limits)
        does = UseCases.of(settings, stores, ring, verifier, hasher, guard, [SecretBytes(bytes(32))])
        await _settle(stores, hasher)
        server = HTTPServer(http_app(does, ring, settings), where)
        await server.start()
        try:
            yield OAuth(server.url, engine, ring, verifier)
        finally:
            await server.stop(5)


async def _settle(stores: Stores, hasher: PasswordHasher) -> None:
    users, clients = stores.users, stores.clients
    alice = a_user("alice", ["editor"], password_hash=await hasher.hash(SecretStr(PASSWORD)))
    await users.add(alice, happened(Kind.USER_CREATED))
    billing = replace(a_client("billing"), secret_hash=hash_of(SecretStr(SECRET)))
    await clients.add(billing, happened(Kind.CLIENT_CREATED))
    watcher = replace(billing, id="watcher", roles=frozenset({"introspector"}))
    await clients.add(watcher, happened(Kind.CLIENT_CREATED))
    stock = replace(watcher, id="stock", secret_hash=hash_of(SecretStr(STOCK_SECRET)))
    await clients.add(stock, happened(Kind.CLIENT_CREATED))


@asynccontextmanager
async def caller(**how: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=20, trust_env=False, **how) as http:
        yield http
