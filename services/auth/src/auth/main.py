"""Serves auth: `python -m auth.main`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from auth.http import http_app
from auth.open_guard import open_guard
from auth.open_keys import open_keys
from auth.open_stores import open_stores
from auth.password import PasswordHasher
from auth.ring_keys import RingKeys
from auth.server_secret import server_secrets
from auth.service import AuthService
from auth.settings import AuthServiceSettings
from auth.use_cases import UseCases
from auth.user_pages import UserPages
from grpc_common.application import Application
from grpc_common.health.check import DependencyCheck
from grpc_common.revocations import Revocations
from grpc_common.run import run
from grpc_common.token_verifier import TokenVerifier
from meshwork.auth.v1.auth_service_pb2_grpc import add_AuthServiceServicer_to_server


@asynccontextmanager
async def build(settings: AuthServiceSettings) -> AsyncIterator[Application]:
    """Yields the service with its database, its keys and its guard, which are open as long as the service is."""
    revocations = Revocations()
    secrets = server_secrets(settings.refresh_secrets, settings.refresh_file)
    async with (
        open_stores(settings, revocations) as (stores, stored),
        open_keys(settings) as ring,
        open_guard(settings.cache_url, settings.guard_limits, secrets[0]) as (guard, guarded),
        PasswordHasher(settings.cost, at_once=settings.password_at_once, waiting=settings.password_waiting) as hasher,
    ):
        verifier = TokenVerifier([settings.trusted(RingKeys(ring))], revocations=revocations)
        does = UseCases.of(settings, stores, ring, verifier, hasher, guard, secrets)
        pages = UserPages(stores.users, stores.page_tokens)
        service = AuthService(does, pages, behind_mesh=settings.grpc.plaintext is not None)
        keys = DependencyCheck(name="signing keys", probe=ring.answers, critical=False)
        yield Application(
            partial(add_AuthServiceServicer_to_server, service),
            [*stored, keys, *guarded],
            verifier=verifier,
            restore_revocations=stores.revocations.recent,
            http=http_app(does, ring, settings),
        )


if __name__ == "__main__":
    run(build, AuthServiceSettings)
