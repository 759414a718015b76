"""The signing keys that the settings name."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog

from auth.file_signer import FileSigner
from auth.key_ring import KeyRing
from auth.settings import AuthServiceSettings
from auth.signer import Signer
from auth.transit_signer import TransitSigner
from auth.vault_login import AppRole, Kubernetes, VaultLogin, vault_client
from grpc_common.background import background
from grpc_common.errors import ExternalServiceError


@asynccontextmanager
async def open_keys(settings: AuthServiceSettings) -> AsyncIterator[KeyRing]:
    """Yield the ring of keys, which makes new ones and destroys old ones when it is time."""
    async with _signer(settings) as signer:
        ring = KeyRing(signer, settings.key_schedule, refresh=settings.key_read)
        async with background(_keep_up(ring, settings.key_read)):
            yield ring


def _signer(settings: AuthServiceSettings) -> AbstractAsyncContextManager[Signer]:
    if not settings.vault_url:
        return FileSigner(settings.key_file, settings.key_name, settings.key_algorithm)
    return _transit(settings)


@asynccontextmanager
async def _transit(settings: AuthServiceSettings) -> AsyncIterator[Signer]:
    async with (
        vault_client(_login(settings)) as client,
        TransitSigner(client, settings.key_name, settings.key_algorithm, mount=settings.vault_mount) as signer,
    ):
        yield signer


def _login(settings: AuthServiceSettings) -> VaultLogin:
    if settings.vault_kubernetes_role:
        return Kubernetes(settings.vault_url, settings.vault_kubernetes_role, settings.vault_kubernetes_token_file)
    assert settings.vault_wrapped_secret_id_file is not None  # noqa: S101  # the settings say so
    return AppRole(settings.vault_url, settings.vault_role_id, settings.vault_wrapped_secret_id_file)


async def _keep_up(ring: KeyRing, interval: float) -> None:
    """Look after the keys for ever; a problem is told when it begins, when it becomes another one, and at its end."""
    log = structlog.get_logger(component="keys")
    problem = ""
    while True:
        before, problem = problem, ""
        try:
            await ring.upkeep()
        except Exception as error:  # noqa: BLE001  # it may be mended by an operator, and nobody starts this again
            problem = f"{type(error).__name__}: {error}"
            if problem != before:
                tell = log.warning if isinstance(error, ExternalServiceError) else log.error
                tell("the signing keys are not looked after", reason=problem)
        else:
            if before:
                log.info("the signing keys are looked after again")
        await asyncio.sleep(interval)
