"""Settings of a service: environment variables and secret files in, one frozen object or one clear sentence out."""

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAliasType, get_args

import pydantic
from pydantic import BaseModel, ConfigDict, Field, SecretBytes, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSettings

from grpc_common.http_settings import HTTPServerSettings
from grpc_common.listener import is_exposed
from grpc_common.policy import LONGEST
from grpc_common.valkey_url import ValkeyURL

DELIMITER: Final = "__"

# What Kubernetes puts into every container about a Service called like us.
_KUBERNETES: Final = re.compile(r"(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")


class SettingsError(Exception):
    """Settings that cannot be used; the message has one sentence per problem, one to a line, and no secret."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def plaintext_refusal(host: str) -> str:
    """Say why the server does not listen on `host`."""
    return (
        f"listening on {host} without TLS lets the network read every call: listen on 127.0.0.1 or on a Unix socket, "
        "give the files of a certificate, or set plaintext to behind-mesh where a sidecar encrypts"
    )


class TLSSettings(BaseModel):
    """The PEM files a server proves itself with where no mesh does; replaced by rename, they are read again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cert: Path = Field(description="The server's certificate, followed by the intermediate ones.")
    key: Path = Field(description="The private key of the certificate, not encrypted.")
    client_ca: Path | None = Field(
        default=None,
        description="Whose certificates callers must have; unset: callers need none.",
    )


class GRPCServerSettings(BaseModel):
    """How a process serves gRPC."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    enabled: bool = Field(default=False, description="Whether the process serves gRPC.")
    host: str = Field(default="0.0.0.0", description="The address to listen on; not used with a Unix socket.")  # noqa: S104
    port: int = Field(default=50051, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    unix_socket: Path | None = Field(default=None, description="A Unix socket to listen on instead of a port.")
    plaintext: Literal["behind-mesh"] | None = Field(
        default=None,
        description="`behind-mesh` allows listening without TLS on other addresses than loopback.",
    )
    tls: TLSSettings | None = Field(default=None, description="The certificate to serve with; unset: no TLS.")
    max_workers: int = Field(default=10, ge=1, description="Threads for blocking work.")
    max_concurrent_rpcs: int = Field(default=100, ge=1, description="The most calls worked on at once.")
    reflection_enabled: bool = Field(default=True, description="Whether tools such as grpcurl may ask for the API.")
    health_check_enabled: bool = Field(default=True, description="Whether grpc.health.v1 is served.")
    lame_duck_seconds: float = Field(
        default=0.0,
        ge=0,
        le=600,
        description="Seconds between reporting NOT_SERVING and refusing new calls at shutdown.",
    )
    drain_seconds: float = Field(
        default=20.0,
        ge=0,
        le=3600,
        description="The longest wait, in seconds, for calls to end at shutdown before they are cancelled.",
    )

    max_connection_age_seconds: float | None = Field(
        default=None,
        ge=1,
        le=86400,
        description="Seconds after which clients connect anew; unset: 1800 where they connect directly, else never.",
    )

    @model_validator(mode="after")
    def _plaintext_is_meant(self) -> Self:
        if self.tls is not None:
            if self.unix_socket is not None or self.plaintext is not None:
                raise ValueError("tls goes neither with unix_socket nor with plaintext")
        elif self.enabled and self.unix_socket is None and is_exposed(self.host) and self.plaintext is None:
            raise ValueError(plaintext_refusal(self.host))
        return self


class ClientTLSSettings(BaseModel):
    """The PEM files a client trusts and proves itself with where no mesh does; those put in their place are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca: Path | None = Field(default=None, description="Whose certificates servers must have; unset: the system's.")
    cert: Path | None = Field(default=None, description="The client's certificate, followed by the intermediate ones.")
    key: Path | None = Field(default=None, description="The private key of the certificate, not encrypted.")
    server_name: str = Field(default="", description="The name servers' certificates must have; unset: the target's.")

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key are set together, or neither")
        return self


class GRPCClientSettings(BaseModel):
    """How a process calls other services."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default_timeout: float = Field(
        default=30.0, gt=0, le=LONGEST, description="Seconds a call may take when no policy says it."
    )
    max_retries: int = Field(default=3, ge=0, le=4, description="Retries after the first attempt.")
    retry_backoff_base: float = Field(default=1.0, gt=0, le=LONGEST, description="Seconds of the widest first pause.")
    circuit_breaker_threshold: int = Field(default=5, ge=1, description="Failures in a row that open the breaker.")
    circuit_breaker_timeout: float = Field(default=30.0, gt=0, le=LONGEST, description="Seconds an open breaker waits.")
    retry_backoff_max: float = Field(default=10.0, gt=0, le=LONGEST, description="Seconds of the widest pause of all.")
    retry_budget_ratio: float = Field(default=0.2, ge=0, le=1, description="The share of calls that may be retried.")
    hedge_ratio: float = Field(default=0.05, ge=0, le=1, description="The share of calls that may be hedged; 0: none.")
    hedge_delay: float | None = Field(
        default=None,
        gt=0,
        le=LONGEST,
        description="Seconds after which a call is hedged; unset: what the method itself shows.",
    )
    tls: ClientTLSSettings | None = Field(default=None, description="What to trust and to prove; unset: the system's.")
    behind_sidecar: bool = Field(default=False, description="Whether a sidecar balances: then it gets all calls.")
    health_check: bool = Field(default=False, description="Whether servers that report NOT_SERVING get no calls.")

    @model_validator(mode="after")
    def _backoff_grows(self) -> Self:
        if self.retry_backoff_max < self.retry_backoff_base:
            raise ValueError("retry_backoff_max must be at least retry_backoff_base")
        return self


class GRPCSettings(BaseModel):
    """Both sides together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: GRPCServerSettings = Field(default_factory=GRPCServerSettings, description="The server side.")
    client: GRPCClientSettings = Field(default_factory=GRPCClientSettings, description="The client side.")


class AuthSettings(BaseModel):
    """Whose access tokens a service accepts. Without `jwks` it asks for none, and then listens on loopback only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    jwks: str = Field(default="", description="The issuer's keys: the URL of its JWKS, or the path of a file.")
    jwks_socket: Path | None = Field(
        default=None, description="A Unix socket, such as a sidecar's, through which the URL is reached."
    )
    issuer: str = Field(default="", description="The `iss` of accepted tokens.")
    audience: str = Field(default="", description="The `aud` of accepted tokens.")
    algorithms: tuple[Literal["ES256", "EdDSA", "RS256"], ...] = Field(
        default=("ES256",), min_length=1, description="How accepted tokens are signed."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.jwks) != bool(self.issuer and self.audience):
            raise ValueError("jwks, issuer and audience are set together, or none of them")
        if self.jwks_socket is not None and "://" not in self.jwks:
            raise ValueError("jwks_socket is a way to a URL, and jwks is none")
        return self


class ServiceSettings(BaseSettings):
    """What every service can be told; a service adds its own fields and an `env_prefix`.

    A class of settings, or one that it holds, which could be changed later or would take a misspelt key in silence
    cannot be defined: TypeError.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_nested_delimiter=DELIMITER,
        nested_model_default_partial_update=True,
        hide_input_in_errors=True,
    )

    grpc: GRPCServerSettings = Field(default_factory=GRPCServerSettings, description="How the process serves gRPC.")
    http: HTTPServerSettings = Field(default_factory=HTTPServerSettings, description="How the process serves HTTP.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="The least severe log lines that are written.",
    )
    auth: AuthSettings = Field(default_factory=AuthSettings, description="Whose tokens are accepted.")
    trace_ratio: float = Field(default=1.0, ge=0, le=1, description="The share of new traces that is recorded.")
    revocations_url: ValkeyURL = Field(
        default=SecretStr(""),
        description="The Valkey that tells which tokens are taken back: redis://…, rediss://…, unix://…; unset: none.",
    )
    otlp_endpoint: str = Field(default="", description="Where spans are sent, such as http://localhost:4317.")
    log_payloads: bool = Field(default=False, description="Whether messages are logged, redacted and shortened.")
    metrics_host: str = Field(default="127.0.0.1", description="The address of the Prometheus endpoint.")
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="The port of the Prometheus endpoint; unset: there is none.",
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse the class unless it is strict, with all that it holds."""
        super().__pydantic_init_subclass__(**kwargs)
        for model in settings_models(cls):
            if not model.model_config.get("frozen") or model.model_config.get("extra") != "forbid":
                raise TypeError(
                    f"{model.__module__}.{model.__qualname__} holds settings: give it "
                    'model_config = ConfigDict(frozen=True, extra="forbid")'
                )

    @model_validator(mode="after")
    def _tokens_are_asked_for(self) -> Self:
        alone = self.grpc.unix_socket is None and not is_exposed(self.grpc.host)
        if self.grpc.enabled and not self.auth.issuer and not alone:
            raise ValueError("anybody could call: set AUTH__JWKS to the keys of an issuer, or listen on loopback")
        return self


def load_settings[S: BaseSettings](cls: type[S], environ: Mapping[str, str] | None = None) -> S:
    """Build `cls` from the environment and the folder named by `<PREFIX>SECRETS_DIR`, or raise SettingsError."""
    environ = os.environ if environ is None else environ
    prefix = cls.model_config.get("env_prefix", "").upper()
    problems: list[str] = []
    folder = _secrets_dir(environ, f"{prefix}SECRETS_DIR", problems)
    if prefix:
        problems += _misspelt(cls, prefix, environ, folder)
    settings: S | None = None
    try:
        settings = cls(_secrets_dir=folder)
    except pydantic.ValidationError as error:
        problems += _sentences(cls, prefix, error)
    except UnreadableSettings as error:
        problems.append(_unreadable(error, prefix))
    if problems or settings is None:
        # Nothing below may be chained: pydantic's own text can hold the values.
        raise SettingsError(list(dict.fromkeys(problems))) from None
    return settings


def variables(cls: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield each environment variable `cls` reads, with its field; nested settings by their leaves."""
    for name, field in cls.model_fields.items():
        variable = f"{prefix}{name}".upper()
        nested = _nested(field)
        if nested is None:
            yield variable, field
        else:
            yield from variables(nested, f"{variable}{DELIMITER}")


def settings_models(cls: type[BaseModel]) -> list[type[BaseModel]]:
    """Return `cls` and every model that it holds at any depth, each once: also in a list, a mapping or a union."""
    found, waiting = list[type[BaseModel]](), list[Any]([cls])
    while waiting:
        kind = waiting.pop()
        waiting += get_args(kind)
        if isinstance(kind, TypeAliasType):
            waiting.append(kind.__value__)
        elif isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in found:
            found.append(kind)
            waiting += (field.annotation for field in kind.model_fields.values())
    return found


def _nested(field: FieldInfo) -> type[BaseModel] | None:
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _secrets_dir(environ: Mapping[str, str], variable: str, problems: list[str]) -> Path | None:
    folder = environ.get(variable)
    if not folder:
        return None
    if not Path(folder).is_dir():
        problems.append(f"{variable} names {folder}, which is not a folder.")
        return None
    return Path(folder)


def _misspelt(cls: type[BaseSettings], prefix: str, environ: Mapping[str, str], folder: Path | None) -> Iterator[str]:
    known = {name for name, _ in variables(cls, prefix)}
    whole = {f"{prefix}{name}".upper() for name in cls.model_fields}  # a nested model may come as one JSON text
    accepted = known | whole | {f"{prefix}SECRETS_DIR"}
    for variable in sorted(environ):
        name = variable.upper()
        if name.startswith(prefix) and name not in accepted and not _KUBERNETES.fullmatch(name.removeprefix(prefix)):
            yield f"{variable} is not a setting of this service{_suggestion(name, accepted)}"
    if folder is not None:
        for path in sorted(folder.iterdir()):
            name = path.name.upper()
            if name.startswith(prefix) and name not in accepted:
                near = _suggestion(name, accepted, str.lower)
                yield f"The secret file {path} is not a setting of this service{near}"


def _suggestion(name: str, known: set[str], shown: Callable[[str], str] = str) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {shown(near[0])}?" if near else "."


def _sentences(cls: type[BaseModel], prefix: str, error: pydantic.ValidationError) -> Iterator[str]:
    fields = dict(variables(cls, prefix))
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        path = [str(part) for part in problem["loc"]]
        name = _variable(fields, prefix, path)
        field = fields.get(name)
        if problem["type"] == "missing":
            about = f": {field.description}" if field is not None and field.description else ""
            yield f"{name} is not set{about.removesuffix('.')}."
        elif problem["type"] == "extra_forbidden":
            yield f"{name} is not a setting of this service{_suggestion(name, set(fields))}"
        elif field is not None and _is_secret(field):
            yield f"{name} is not valid; its value is secret and not shown."
        else:
            reason = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
            start = reason[:1] if reason[:2].isupper() else reason[:1].lower()  # a setting's name stays as it is
            yield f"{name} is not valid: {start}{reason[1:].removesuffix('.')}."


def _variable(fields: Mapping[str, FieldInfo], prefix: str, path: list[str]) -> str:
    """Return the variable a pydantic location is about; locations inside a value end at the value's variable."""
    for end in range(len(path), 0, -1):
        name = f"{prefix}{DELIMITER.join(path[:end])}".upper()
        if name in fields:
            return name
    return f"{prefix}{DELIMITER.join(path)}".upper() if path else f"{prefix}*"


def _is_secret(field: FieldInfo) -> bool:
    kinds = (field.annotation, *get_args(field.annotation))
    return any(isinstance(kind, type) and issubclass(kind, SecretStr | SecretBytes) for kind in kinds)


def _unreadable(error: UnreadableSettings, prefix: str) -> str:
    found = re.search(r'field "(\w+)"', str(error))
    name = f"{prefix}{found.group(1)}".upper() if found else f"A {prefix}* variable"
    return f"{name} cannot be read: it must be JSON, or be set field by field as {name}{DELIMITER}<FIELD>."
