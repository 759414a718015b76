"""Where a request over HTTP comes from."""

from collections.abc import Callable

from fastapi import Request

from auth.caller import Caller
from grpc_common.client_address import address_of
from grpc_common.http_front import peer

type Origin = Callable[[Request], Caller]


def origin(*, behind_mesh: bool) -> Origin:
    """Return what tells who asks, as `client_address` does for a call."""

    def caller_of(request: Request) -> Caller:
        client = request.client
        came_from = peer((client.host, client.port) if client is not None else None)
        return Caller(address_of(came_from, request.headers.items(), behind_mesh=behind_mesh))

    return caller_of
