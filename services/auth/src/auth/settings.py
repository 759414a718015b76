"""What the auth service can be told, by environment variables that start with AUTH_."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, Self, override

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from auth.access_token import LONGEST
from auth.guard_limits import GuardLimits
from auth.key_schedule import KeySchedule
from auth.password import Cost
from auth.password_policy import PasswordPolicy
from auth.refresh import Lifetimes
from auth.server_secret import read_secrets
from auth.signer import Algorithm
from grpc_common.http_settings import HTTPServerSettings
from grpc_common.jwks import KeySource
from grpc_common.listener import is_exposed, tcp_address
from grpc_common.outbox.settings import OutboxSettings
from grpc_common.scope import is_scope
from grpc_common.settings import AuthSettings, GRPCServerSettings
from grpc_common.token_verifier import Issuer
from grpc_common.valkey_url import ValkeyURL

DAY: Final = 24 * 3600.0
BOOTSTRAP_SECRET: Final = range(32, 256 + 1)
"""How many characters it has: too many to be guessed, and no more than a request may have."""


class IssuerSettings(AuthSettings):
    """As whom and for whom tokens are issued. The service's own keys verify them: there is no JWKS to be named."""

    issuer: str = Field(
        default="",
        description="The `iss` of tokens, and the URL below which OAuth's endpoints are for their clients; "
        "unset: the address at which the process itself serves HTTP.",
    )
    audience: str = Field(default="meshwork", description="The `aud` of tokens.")
    algorithms: tuple[Algorithm, ...] = Field(default=(), description="Not for this service: key_algorithm says it.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.jwks or self.jwks_socket or self.algorithms:
            raise ValueError("this service verifies with its own keys: leave jwks, jwks_socket and algorithms unset")
        if not self.audience:
            raise ValueError("issuer and audience are what tokens say: set both")
        return self


class AuthServiceSettings(OutboxSettings):
    """The service alone: gRPC on 127.0.0.1:50052, HTTP on 127.0.0.1:8081; users, keys and a secret in files of the
    working directory.
    """

    model_config = SettingsConfigDict(env_prefix="AUTH_", allow_inf_nan=False)

    grpc: GRPCServerSettings = Field(
        default=GRPCServerSettings(enabled=True, host="127.0.0.1", port=50052, max_concurrent_rpcs=400),
        description="How the process serves gRPC.",
    )
    http: HTTPServerSettings = Field(
        default=HTTPServerSettings(enabled=True, port=8081, max_body=16_384),
        description="How the process serves HTTP: its keys, and OAuth's endpoints.",
    )
    auth: IssuerSettings = Field(default_factory=IssuerSettings, description="As whom and for whom tokens are issued.")
    database_url: SecretStr = Field(
        default=SecretStr("sqlite+aiosqlite:///auth.db"),
        description="Where users are kept: postgresql+asyncpg://… or the file sqlite+aiosqlite:///….",
    )

    relay_pause: float = Field(
        default=2.0,  # what is taken back must be known in seconds, also once Valkey was away for long
        gt=0,
        description="Seconds until an event is tried again, at most.",
    )

    token_lifetime: int = Field(default=600, ge=1, le=LONGEST, description="Seconds that an access token lives.")
    user_scopes: tuple[str, ...] = Field(default=(), description="The scopes that users' tokens may have.")
    refresh_absolute: float = Field(default=30 * DAY, gt=0, description="Seconds that a session lives at most.")
    refresh_idle: float = Field(default=7 * DAY, gt=0, description="Seconds that a session lives unused.")
    refresh_grace: float = Field(
        default=10.0, ge=0, description="Seconds in which a used refresh token has the same successor again."
    )
    refresh_secrets: SecretStr = Field(
        default=SecretStr(""),
        description="What refresh tokens are derived from: secrets of 64 hexadecimal digits or more, the newest first, "
        "with commas between; unset: made and kept in refresh_file.",
    )
    refresh_file: Path = Field(default=Path("auth-refresh"), description="Where that secret is kept if it is unset.")

    key_name: str = Field(
        default="access", pattern=r"^[a-z0-9-]{1,40}$", description="What the signing key is called where it is kept."
    )
    key_algorithm: Algorithm = Field(default="ES256", description="How tokens are signed.")
    key_period: float = Field(default=30 * DAY, gt=0, description="Seconds after which another key is made.")
    key_ahead: float = Field(default=600.0, gt=0, description="Seconds that a key is published before it signs.")
    key_read: float = Field(default=60.0, gt=0, description="Seconds between two looks for new keys.")
    key_file: Path = Field(
        default=Path("auth-keys.json"),
        description="Where signing keys are kept if there is no OpenBao: for development.",
    )
    vault_url: str = Field(default="", description="The OpenBao or Vault whose transit engine signs; unset: key_file.")
    vault_mount: str = Field(default="transit", description="Where its transit engine is.")
    vault_role_id: SecretStr = Field(default=SecretStr(""), description="The id of the AppRole to log in with.")
    vault_wrapped_secret_id_file: Path | None = Field(
        default=None, description="The file with the wrapping token of the AppRole's secret id."
    )
    vault_kubernetes_role: str = Field(default="", description="The role to log in with as a pod of Kubernetes.")
    vault_kubernetes_token_file: Path = Field(
        default=Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
        description="The token of the pod's service account.",
    )

    registration: bool = Field(default=False, description="Whether whoever wants to may create a user.")
    bootstrap_secret: SecretStr = Field(
        default=SecretStr(""),
        description="The one-time secret, of 32 characters or more, that creates the first administrator; "
        "unset: nobody can.",
    )
    password_shortest: int = Field(default=12, ge=8, le=64, description="The fewest characters of a new password.")
    password_passes: int = Field(default=2, ge=1, le=100, description="Passes of argon2id over its memory.")
    password_memory: int = Field(default=19 * 1024, ge=1024, description="KiB that one hash of a password takes.")
    password_lanes: int = Field(default=1, ge=1, le=64, description="Lanes of argon2id.")
    password_at_once: int = Field(default=2, ge=1, le=64, description="How many passwords are hashed at once.")
    password_waiting: int = Field(default=256, ge=0, description="How many more may wait for it.")
    password_grant: bool = Field(default=False, description="Whether OAuth's password grant is served.")

    guard_failures: int = Field(default=10, ge=1, description="Wrong passwords in a row before an account is held up.")
    guard_pause: float = Field(default=30.0, gt=0, description="Seconds of the first pause; each next one doubles it.")
    guard_longest_pause: float = Field(default=900.0, gt=0, description="Seconds of the longest pause.")
    guard_address_rate: float = Field(default=1.0, gt=0, description="Failures a second that an address may have.")
    guard_address_burst: int = Field(default=100, ge=1, description="Failures that an address may have at once.")
    cache_url: ValkeyURL = Field(
        default=SecretStr(""),
        description="The Valkey or Redis that counts failed logins for all replicas: redis://…, rediss://…, unix://…; "
        "unset: each replica counts for itself.",
    )
    upkeep_interval: float = Field(default=60.0, gt=0, description="Seconds between two clearings of what is not kept.")

    @field_validator("refresh_secrets")
    @classmethod
    def _are_secrets(cls, value: SecretStr) -> SecretStr:
        if value:
            read_secrets(value)
        return value

    @field_validator("user_scopes")
    @classmethod
    def _are_scopes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for scope in value:
            if not is_scope(scope):
                raise ValueError(f"{scope!r} is no scope, which is ASCII without spaces, quotation marks, backslashes")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _together("REFRESH_GRACE, REFRESH_IDLE and REFRESH_ABSOLUTE", lambda: self.lifetimes)
        _together("GUARD_PAUSE and GUARD_LONGEST_PAUSE", lambda: self.guard_limits)
        _together("KEY_AHEAD and KEY_PERIOD", lambda: self.key_schedule)
        if self.key_ahead <= self.key_read:
            raise ValueError(
                "KEY_AHEAD must be longer than KEY_READ: all replicas must have read a new key before it signs"
            )
        return self

    @model_validator(mode="after")
    def _cannot_be_guessed(self) -> Self:
        # Not of the field alone, of whose problems nothing is shown.
        if self.bootstrap_secret and len(self.bootstrap_secret) not in BOOTSTRAP_SECRET:
            raise ValueError(
                f"BOOTSTRAP_SECRET must have {BOOTSTRAP_SECRET[0]} to {BOOTSTRAP_SECRET[-1]} characters: "
                "make one with `openssl rand -hex 32`"
            )
        return self

    @model_validator(mode="after")
    def _keys_are_somewhere(self) -> Self:
        logins = bool(self.vault_role_id), bool(self.vault_kubernetes_role)
        if self.vault_url and sum(logins) != 1:
            raise ValueError("VAULT_URL needs a way to log in: VAULT_ROLE_ID, or VAULT_KUBERNETES_ROLE")
        if self.vault_role_id and self.vault_wrapped_secret_id_file is None:
            raise ValueError("VAULT_ROLE_ID needs VAULT_WRAPPED_SECRET_ID_FILE")
        return self

    @override
    @model_validator(mode="after")
    def _tokens_are_asked_for(self) -> Self:
        """Whoever calls needs a token of this service; what must be known is as whom it issues them."""
        grpc, http = self.grpc, self.http
        unknown = http.unix_socket is not None or http.port == 0 or is_exposed(http.host)
        far = grpc.enabled and grpc.unix_socket is None and is_exposed(grpc.host)
        if not self.auth.issuer and (unknown or far):
            raise ValueError(
                "AUTH__ISSUER must be set, to the URL by which clients reach the service: that cannot be told from a "
                "Unix socket, from a free port, or from an address behind a mesh"
            )
        return self

    @property
    def issuer(self) -> str:
        """As whom tokens are issued."""
        return self.auth.issuer or f"http://{tcp_address(self.http.host, self.http.port)}"

    def trusted(self, keys: KeySource) -> Issuer:
        """Return this service as an issuer of tokens that are signed with `keys`."""
        return Issuer(self.issuer, self.auth.audience, keys, frozenset({self.key_algorithm}))

    @property
    def lifetimes(self) -> Lifetimes:
        """How long sessions live."""
        return Lifetimes(absolute=self.refresh_absolute, idle=self.refresh_idle, grace=self.refresh_grace)

    @property
    def key_schedule(self) -> KeySchedule:
        """When keys are made, published and used."""
        return KeySchedule(period=self.key_period, ahead=self.key_ahead, lifetime=self.token_lifetime)

    @property
    def cost(self) -> Cost:
        """What one hash of a password costs."""
        return Cost(passes=self.password_passes, memory=self.password_memory, lanes=self.password_lanes)

    @property
    def password_policy(self) -> PasswordPolicy:
        """Which passwords are taken."""
        return PasswordPolicy(shortest=self.password_shortest)

    @property
    def guard_limits(self) -> GuardLimits:
        """How many passwords may be tried."""
        return GuardLimits(
            failures=self.guard_failures,
            pause=self.guard_pause,
            longest_pause=self.guard_longest_pause,
            address_rate=self.guard_address_rate,
            address_burst=self.guard_address_burst,
        )


def _together(names: str, part: Callable[[], object]) -> None:
    """Make what the settings of those names are for, which says itself what cannot be."""
    try:
        part()
    except ValueError as error:
        raise ValueError(f"{names} do not go together: {error}") from None
