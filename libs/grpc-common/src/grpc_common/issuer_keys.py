"""The JWTService that settings describe."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from grpc_common.background import background
from grpc_common.jwks import JWKSFile, KeySource
from grpc_common.jwks_client import JWKSClient
from grpc_common.settings import AuthSettings, SettingsError
from grpc_common.token_verifier import Issuer, TokenVerifier


@asynccontextmanager
async def open_verifier(settings: AuthSettings) -> AsyncIterator[TokenVerifier | None]:
    """Yield the verifier of the issuer's tokens; None where the settings name no issuer."""
    if not settings.jwks:
        yield None
        return
    async with AsyncExitStack() as stack:
        keys: KeySource
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
        yield TokenVerifier([issuer])
