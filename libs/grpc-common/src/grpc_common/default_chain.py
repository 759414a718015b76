"""The order of the interceptors, with the reason for each place."""

from grpc_common.chain import Chain, Interceptor
from grpc_common.interceptors.error import ErrorInterceptor
from grpc_common.interceptors.logging import LoggingInterceptor


def default_interceptors() -> list[Interceptor]:
    """Return the interceptors every service has, outermost first."""
    return [
        # Around all that may refuse or fail: its line must show the status the caller is really sent.
        LoggingInterceptor(),
        # Inside of the log, which could not tell what an exception becomes; around all that raises.
        ErrorInterceptor(),
    ]


def default_chain() -> Chain:
    """Return the chain every service has."""
    return Chain(default_interceptors())
