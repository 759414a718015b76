"""The JWTService that settings describe."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from grpc_common.background import background
from grpc_common.health.check import DependencyCheck
from grpc_common.jwks import JWKSFile
from grpc_common.jwks_client import JWKSClient
from grpc_common.settings import AuthSettings, SettingsError
from grpc_common.token_verifier import Issuer, TokenVerifier

LOOK_EVERY: Final = 0.25
"""Seconds; it costs nothing, and who waits for a service to start waits for that."""


@asynccontextmanager
async def open_verifier(
    settings: AuthSettings,
) -> AsyncIterator[tuple[TokenVerifier | None, Sequence[DependencyCheck]]]:
    """Yield the verifier of the issuer's tokens, None where the settings name no issuer, and the check of it.

    Who cannot verify a token serves nobody: until the keys are there, others are to be called.
    """
    if not settings.jwks:
        yield None, ()
        return
    async with AsyncExitStack() as stack:
        keys: JWKSClient | JWKSFile
        if "://" in settings.jwks:
            try:
                client = await stack.enter_async_context(JWKSClient(settings.jwks, uds=settings.jwks_socket))
            except ValueError as error:
                raise SettingsError([f"{error}."]) from error
            await stack.enter_async_context(background(client.fetch_early()))
            keys = client
        else:
            keys = JWKSFile(Path(settings.jwks))
        issuer = Issuer(settings.issuer, settings.audience, keys, frozenset(settings.algorithms))
        check = DependencyCheck(name="token keys", probe=keys.usable, interval=LOOK_EVERY, successes_to_up=1)
        yield TokenVerifier([issuer]), [check]
