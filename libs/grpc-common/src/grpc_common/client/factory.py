"""Where channels and stubs come from."""

import asyncio
import json
from collections.abc import Callable
from random import Random
from typing import Any, Final, Self
from weakref import WeakKeyDictionary

import grpc
from grpc import aio
from opentelemetry import trace
from opentelemetry.trace import Tracer
from prometheus_client import REGISTRY, CollectorRegistry

from grpc_common import metadata_size
from grpc_common.client.breaker import CircuitBreakerConfig
from grpc_common.client.calling import Calling
from grpc_common.client.channel import ClientChannel
from grpc_common.client.channel_pool import ChannelKey, ChannelPool
from grpc_common.client.client_metrics import ClientMetrics
from grpc_common.client.clock import CLOCK, Clock
from grpc_common.client.connection import Connection
from grpc_common.client.probe import Probe
from grpc_common.client.retry_config import RetryConfig
from grpc_common.client.rotation import Rotation
from grpc_common.client.target import Target, read_target
from grpc_common.client.tls_files import ClientTLSFiles
from grpc_common.keepalive import KEEPALIVE, Keepalive
from grpc_common.loopback import NO_PROXY
from grpc_common.settings import ClientTLSSettings, GRPCClientSettings, SettingsError
from grpc_common.tls import CertificateError

RECONNECT: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1500),
    # Also the time one try has; core's own 20 s would outlast most calls.
    ("grpc.min_reconnect_backoff_ms", 2000),
)
"""After an outage the next try comes within 1.8 s, core's jitter included, however long it was."""
OWN_CONNECTIONS: Final = ("grpc.use_local_subchannel_pool", 1)
"""Core would else give a new channel the connections of one that is still closing, with the pause these are in."""


class GRPCClientFactory:
    """Makes channels whose calls have a deadline, are repeated as their policy says, and fail as typed errors.

    `default_timeout` is seconds, for methods without a policy; `retry_config` and `circuit_breaker_config` default to
    their classes' own values. `tls` names the files that channels trust and prove themselves with; without it they
    trust the system's authorities. Close the factory, or use it in `async with`.
    """

    def __init__(
        self,
        default_timeout: float = 30.0,
        retry_config: RetryConfig | None = None,
        circuit_breaker_config: CircuitBreakerConfig | None = None,
        *,
        tls: ClientTLSSettings | None = None,
        behind_sidecar: bool = False,
        health_check: bool = False,
        keepalive: Keepalive = KEEPALIVE,
        tracer: Tracer | None = None,
        registry: CollectorRegistry = REGISTRY,
        clock: Clock = CLOCK,
        random: Random | None = None,
    ) -> None:
        if not 0 < default_timeout < float("inf"):
            raise ValueError(f"default_timeout is a number of seconds above 0, not {default_timeout}")
        self._calling: Final = Calling(
            default_timeout,
            retry_config or RetryConfig(),
            circuit_breaker_config or CircuitBreakerConfig(),
            tracer or trace.get_tracer("grpc_common"),
            ClientMetrics.of(registry),
            clock,
            random or Random(),  # noqa: S311  # pauses are no secret
        )
        self._tls: Final = tls
        self._behind_sidecar: Final = behind_sidecar
        self._health_check: Final = health_check
        self._keepalive: Final = keepalive
        self._pool: Final = ChannelPool(self._connect)
        self._given: WeakKeyDictionary[aio.Channel, Connection] = WeakKeyDictionary()

    @classmethod
    def from_settings(cls, settings: GRPCClientSettings, **more: Any) -> Self:
        """Make the factory that `settings` describe; `more` are arguments that no setting has."""
        return cls(
            settings.default_timeout,
            RetryConfig(
                max_retries=settings.max_retries,
                backoff_base=settings.retry_backoff_base,
                backoff_max=settings.retry_backoff_max,
                budget_ratio=settings.retry_budget_ratio,
                hedge_ratio=settings.hedge_ratio,
                hedge_delay=settings.hedge_delay,
            ),
            CircuitBreakerConfig(
                failure_threshold=settings.circuit_breaker_threshold,
                recovery_timeout=settings.circuit_breaker_timeout,
            ),
            tls=settings.tls,
            behind_sidecar=settings.behind_sidecar,
            health_check=settings.health_check,
            **more,
        )

    async def create_channel(
        self,
        target: str,
        secure: bool = True,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> ClientChannel:
        """Return a channel to `target`; equal ones share a connection, which is made when the first call needs it.

        What is on this machine (loopback, a Unix socket, anything with `behind_sidecar`) is dialled past any proxy that
        the environment names.

        Raises TargetError for what is no target, SettingsError when the files of `tls` cannot be used.
        """
        return self._lease(target, secure, credentials)

    def create_stub[S](
        self,
        stub_class: Callable[[aio.Channel], S],
        channel: aio.Channel | str,
        *,
        secure: bool = True,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> S:
        """Return a stub on `channel`, or on a channel of its own to a target, given up with the stub.

        `stub_class` is a generated class; its type says what it gives on a channel of grpc.aio, which is what is
        returned: `ItemServiceStub` is an `ItemServiceAsyncStub`. A plain `grpc.aio` channel stays its maker's to close;
        calls through the stub have all that the factory gives.
        """
        if isinstance(channel, str):
            channel = self._lease(channel, secure, credentials)
        elif not isinstance(channel, ClientChannel):
            channel = self._adopt(channel)
        return stub_class(channel)

    def _lease(self, target: str, secure: bool, credentials: grpc.ChannelCredentials | None) -> ClientChannel:
        if credentials is not None and not secure:
            raise ValueError("credentials belong to a secure channel: leave out secure=False")
        key = ChannelKey(read_target(target).uri, secure, credentials, asyncio.get_running_loop())
        return self._pool.lease(key)

    def _adopt(self, channel: aio.Channel) -> ClientChannel:
        connection = self._given.get(channel)
        if connection is None:
            connection = self._given[channel] = Connection("a given channel", channel, self._calling)

        async def release(grace: float | None) -> None:
            """Leave the channel to whoever made it."""

        return ClientChannel(connection, release)

    def _connect(self, key: ChannelKey) -> Connection:
        target = read_target(key.target)
        options = self._options(target)
        if not key.secure:
            probe = Probe(target, None, secure=False)
            channel = aio.insecure_channel(target.uri, options)
            return Connection(target.uri, channel, self._calling, probe.diagnose, target.server)
        if key.credentials is not None:
            probe = Probe(target, None, secure=True)
            channel = aio.secure_channel(target.uri, key.credentials, options)
            return Connection(target.uri, channel, self._calling, probe.diagnose, target.server)
        files = ClientTLSFiles(self._tls or ClientTLSSettings())
        try:
            first = files.read()
        except CertificateError as error:
            raise SettingsError([f"{error}."]) from error

        def dial(credentials: grpc.ChannelCredentials) -> aio.Channel:
            return aio.secure_channel(target.uri, credentials, options)

        probe = Probe(target, files, secure=True)
        connection = Connection(target.uri, dial(first), self._calling, probe.diagnose, target.server)
        if files.paths:
            rotation = Rotation(connection, files, dial)
            connection.before_call = rotation.look
            connection.before_close = rotation.close
        return connection

    def _options(self, target: Target) -> list[tuple[str, Any]]:
        options: list[tuple[str, Any]] = [*RECONNECT, *self._keepalive.client_options(), *metadata_size.OPTIONS]
        # Retries are made by this library alone; core's transparent ones, of calls never sent, stay on.
        options.append(("grpc.service_config_disable_resolution", 1))
        options.append(OWN_CONNECTIONS)
        if self._behind_sidecar or target.on_this_machine:
            options.append(NO_PROXY)
        if self._behind_sidecar or target.unix_path:
            config: dict[str, Any] = {"loadBalancingConfig": [{"pick_first": {}}]}
        else:
            config = {"loadBalancingConfig": [{"round_robin": {}}]}
            if self._health_check:
                config["healthCheckConfig"] = {"serviceName": ""}
        options.append(("grpc.service_config", json.dumps(config)))
        if self._tls is not None and self._tls.server_name:
            options.append(("grpc.ssl_target_name_override", self._tls.server_name))
        return options

    @property
    def open_channels(self) -> int:
        """How many connections there are, connected or not."""
        return len(self._pool)

    async def close(self, grace: float | None = None) -> None:
        """Close all channels of this event loop: calls that run get `grace` seconds, then they are cancelled."""
        await self._pool.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()
