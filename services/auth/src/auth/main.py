"""Serves auth: `python -m auth.main`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from auth.http import http_app
from auth.migrate import MIGRATIONS
from auth.open_guard import open_guard
from auth.open_keys import open_keys
from auth.password import PasswordHasher
from auth.publisher import SecurityEventPublisher
from auth.ring_keys import RingKeys
from auth.server_secret import server_secrets
from auth.service import AuthService
from auth.settings import AuthServiceSettings
from auth.stores import Stores
from auth.table import OUTBOX, TOKEN_SECRETS
from auth.upkeep import Upkeep
from auth.use_cases import UseCases
from auth.user_pages import UserPages
from grpc_common.application import Application
from grpc_common.background import background
from grpc_common.database.engine import answers, open_engine
from grpc_common.health.check import DependencyCheck
from grpc_common.listing.page_token_secrets import load_page_tokens
from grpc_common.outbox.telling import telling
from grpc_common.run import run
from grpc_common.token_verifier import TokenVerifier
from meshwork.auth.v1.auth_service_pb2_grpc import add_AuthServiceServicer_to_server


@asynccontextmanager
async def build(settings: AuthServiceSettings) -> AsyncIterator[Application]:
    """Yields the service with its database, its keys and its guard, which are open as long as the service is."""
    url, limits, clock = settings.database_url.get_secret_value(), settings.database_limits, partial(datetime.now, UTC)
    if settings.migrate_on_start:
        await MIGRATIONS.upgrade(url)
    secrets = server_secrets(settings.refresh_secrets, settings.refresh_file)
    async with (
        open_engine(url, limits, "auth") as engine,
        open_keys(settings) as ring,
        open_guard(settings.cache_url, settings.guard_limits, secrets[0]) as (guard, guarded),
        telling(url, limits, OUTBOX, SecurityEventPublisher(), settings.relay_limits, clock, application="auth") as (
            tell,
            outbox,
        ),
        PasswordHasher(settings.cost, at_once=settings.password_at_once, waiting=settings.password_waiting) as hasher,
    ):
        await MIGRATIONS.require_current(engine)
        stores = Stores.sql(engine, tell)
        verifier = TokenVerifier([settings.trusted(RingKeys(ring))])
        does = UseCases.of(settings, stores, ring, verifier, hasher, guard, secrets)
        pages = UserPages(stores.users, await load_page_tokens(engine, TOKEN_SECRETS))
        service = AuthService(does, pages)
        checks = [
            DependencyCheck(name="database", probe=partial(answers, engine)),
            DependencyCheck(name="signing keys", probe=ring.answers, critical=False),
            *guarded,
            *outbox,
        ]
        async with background(Upkeep(stores.families, settings.refresh_idle).run(settings.upkeep_interval)):
            register = partial(add_AuthServiceServicer_to_server, service)
            yield Application(register, checks, verifier=verifier, http=http_app(does, ring, settings))


if __name__ == "__main__":
    run(build, AuthServiceSettings)
