"""A real server in the test's own process."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import structlog

from grpc_common import metadata_size
from grpc_common.chain import Chain, Interceptor
from grpc_common.client.factory import OWN_CONNECTIONS
from grpc_common.default_chain import default_interceptors
from grpc_common.jwks import StaticJWKS
from grpc_common.loopback import NO_PROXY
from grpc_common.registration import Registration
from grpc_common.token_maker import TokenMaker
from grpc_common.token_verifier import Issuer, TokenVerifier


@asynccontextmanager
async def in_process(
    register: Callable[[Any], None],
    interceptors: Sequence[grpc.aio.ServerInterceptor] | None = None,
    *,
    issuer: TokenMaker | None = None,
    inside: Sequence[Interceptor] = (),
    options: Sequence[tuple[str, Any]] = (),
    without_policy: Collection[str] = (),
) -> AsyncIterator[grpc.aio.Channel]:
    """Serve what `register` adds, with the default chain unless told otherwise, and give a channel to it.

    The default chain asks for the tokens of `issuer`, and verifies them by the issuer's clock; without one nobody is
    asked for any. `inside` stands between the default chain and the handlers. Neither goes with `interceptors`: raises
    ValueError. `options` are the channel arguments of server and channel, such as a small window. PolicyError is
    raised as by a service's own server: for a method without a policy, unless `without_policy` names its service.
    """
    _keep_tracebacks_short()
    if interceptors is None:
        interceptors = [_chain(issuer, inside)]
    elif issuer is not None or inside:
        raise ValueError("issuer and inside belong to the default chain, which interceptors replace")
    options = (*metadata_size.OPTIONS, *options)
    server = grpc.aio.server(interceptors=list(interceptors), options=options)
    register(Registration(server, without_policy))
    port = server.add_insecure_port("127.0.0.1:0")
    for interceptor in interceptors:
        if isinstance(interceptor, Chain | Interceptor):
            interceptor.served_at("127.0.0.1", port)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=[NO_PROXY, OWN_CONNECTIONS, *options]
        ) as channel:
            yield channel
    finally:
        await server.stop(0.5)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a call with that token (RFC 6750 §2.1)."""
    return (("authorization", f"Bearer {token}"),)


def _keep_tracebacks_short() -> None:
    """Have structlog print tracebacks as Python does, where nobody has configured it.

    With rich installed it would show all variables of all frames: a thousand lines and seconds for each error.
    """
    if structlog.is_configured():
        return
    processors = structlog.get_config()["processors"]
    for at, processor in enumerate(processors):
        if isinstance(processor, structlog.dev.ConsoleRenderer):
            processors[at] = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _chain(issuer: TokenMaker | None, inside: Sequence[Interceptor]) -> Chain:
    if issuer is None:
        return Chain([*default_interceptors(), *inside])
    trusted = Issuer(issuer.issuer, issuer.audience, StaticJWKS(issuer.jwks()), frozenset({issuer.algorithm}))
    verifier = TokenVerifier([trusted], clock=issuer.clock)
    return Chain([*default_interceptors(jwt_service=verifier, clock=issuer.clock), *inside])
