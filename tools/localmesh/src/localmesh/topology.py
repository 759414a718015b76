"""The topology file, as the mesh reads it: services, accounts, the ingress."""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from localmesh.failure import UsageError

IN_THE_TREE = Path(__file__).parents[3] / "topology.toml"
"""Where the topology stands in a checkout."""


def _matching(pattern: str, what: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is {what}")
        return text

    return AfterValidator(check)


type Name = Annotated[str, _matching(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", "no name: small letters, digits and -")]
type Domain = Annotated[str, _matching(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", "no trust domain")]
type Module = Annotated[str, _matching(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*", "no Python module")]
type GrpcService = Annotated[str, _matching(r"[a-z]\w*(\.\w+)+", "no full name of a gRPC service")]
type EnvName = Annotated[str, _matching(r"[A-Z][A-Z0-9_]*", "no name of a setting: capital letters, digits and _")]
type PathPrefix = Annotated[str, _matching(r"(/[A-Za-z0-9._~-]+)+/", "no prefix of a path: it begins and ends with /")]
type EnvPrefix = Annotated[str, _matching(r"[A-Z][A-Z0-9_]*_", "no prefix: capital letters that end in _")]

type Caller = Annotated[Name, Field()] | Literal["*"]

EVERYBODY = "*"
"""Stands for all accounts of the mesh."""
JWKS_PATH = "/.well-known/jwks.json"
"""Where the service that issues tokens serves the keys they are verified with."""
BOOTSTRAP_SECRET = "BOOTSTRAP_SECRET"  # noqa: S105 - its name
"""The setting of that service that takes the secret by which the first administrator is made."""

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Example:
    """A call to try by hand: a method by its full name, the same as REST, and the request."""

    grpc: str
    rest: str
    body: str


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Service:
    """A service of ours: a Python module that serves gRPC on a Unix socket, and HTTP on another one if it has paths."""

    module: Module
    env_prefix: EnvPrefix
    grpc: Annotated[tuple[GrpcService, ...], Field(min_length=1)]
    account: Name
    migrate: Module | None = None
    """The module that brings the database to its newest form, run before the service."""
    database: bool = False
    """Whether it has a database of its own in PostgreSQL; the setting DATABASE_URL takes it."""
    cache: bool = False
    """Whether it has keys of its own in Valkey; the setting CACHE_URL takes it."""
    http: Mapping[PathPrefix, Annotated[tuple[Caller, ...], Field(min_length=1)]] = field(default_factory=dict)
    """What it serves over HTTP: how paths begin, each with the accounts that may ask there, `*` for everybody."""
    secrets: tuple[EnvName, ...] = ()
    """Settings that each take 32 random bytes in hexadecimal digits, the same as long as its database is."""
    transit: Name | None = None
    """The key it signs with in OpenBao's transit engine, to which it gets a login of its own."""
    calls: Mapping[Name, EnvName] = field(default_factory=dict)
    """The services it calls, each with the setting (without the prefix) that takes the target to dial."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Further settings, without the prefix."""
    example: Example | None = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Ingress:
    """The way in: one TLS port for gRPC and REST."""

    account: Name
    port: Annotated[int, Field(ge=1, le=65_535)]
    calls_per_second: Annotated[float, Field(gt=0)] = 5_000
    """What is above that is refused with RESOURCE_EXHAUSTED; health is not counted."""
    origins: tuple[str, ...] = ()
    """The web pages whose scripts may call, as patterns of their whole origin (RE2)."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Tokens:
    """What an access token must say to pass the ingress, and which service issues it."""

    audience: str
    service: Name
    """Serves the keys at JWKS_PATH."""
    issuer: str = ""
    """Who they say has issued them, a URL by which OAuth's clients find everything else (RFC 8414); empty: the ingress,
    at whatever port it has.
    """


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Topology:
    """Who is in the mesh."""

    trust_domain: Domain
    namespace: Name
    observers: tuple[Name, ...]
    ingress: Ingress
    tokens: Tokens
    attempts_budget: Annotated[int, Field(ge=1)] = 4
    """The most often one call of a client may reach a server, with everybody's retries multiplied."""
    certificate_seconds: Annotated[int, Field(ge=10)] = 3600
    """How long a certificate lives; it is renewed at half of that."""
    services: Annotated[Mapping[Name, Service], Field(min_length=1)]

    @property
    def spiffe_prefix(self) -> str:
        """What all SPIFFE ids of the trust domain begin with."""
        return f"spiffe://{self.trust_domain}/"

    def at(self, port: int) -> "Topology":
        """Return the topology of a mesh whose ingress has that port."""
        url = self.tokens.issuer or f"https://localhost:{port}"
        return replace(self, tokens=replace(self.tokens, issuer=url))

    def spiffe_id(self, account: str) -> str:
        """The SPIFFE id of an account."""
        return f"{self.spiffe_prefix}ns/{self.namespace}/sa/{account}"

    def service_of(self, variable: str) -> Service | None:
        """The service that takes an environment variable for a setting of its own; settings know no case."""
        name = variable.upper()
        takes = [service for service in self.services.values() if name.startswith(service.env_prefix)]
        return max(takes, key=lambda service: len(service.env_prefix), default=None)

    def environment_of(self, service: Service, variables: Mapping[str, str]) -> dict[str, str]:
        """Those of the variables that are not another service's settings."""
        return {name: value for name, value in variables.items() if (self.service_of(name) or service) is service}

    @property
    def connection_seconds(self) -> float:
        """How long a connection between proxies takes new calls: half the life of the certificates it began with."""
        return self.certificate_seconds / 2

    @property
    def issuer(self) -> str:
        """The service that issues the tokens."""
        return self.tokens.service

    @property
    def accounts(self) -> tuple[str, ...]:
        """All accounts, each once."""
        return tuple(dict.fromkeys((self.ingress.account, *(s.account for s in self.services.values()))))


def read(path: Path) -> Topology:
    """Reads a topology file; `UsageError` names the file and what is wrong in it."""
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read the topology {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    try:
        topology = TypeAdapter(Topology).validate_python(document)
    except ValidationError as error:
        raise UsageError("\n".join(f"{path}: {sentence}" for sentence in _sentences(error))) from error
    _check_names(path, topology)
    return topology


def _check_names(path: Path, topology: Topology) -> None:
    for observer in topology.observers:
        if observer not in topology.accounts:
            raise UsageError(
                f"{path}: observers names {observer!r}, which is no account{near(observer, topology.accounts)}"
            )
    owners: dict[str, str] = {}
    for name, service in topology.services.items():
        if name == "ingress":
            raise UsageError(f"{path}: a service cannot be called ingress")
        for called in service.calls:
            if called not in topology.services or called == name:
                raise UsageError(
                    f"{path}: services.{name}.calls names {called!r}, which is no other service"
                    f"{near(called, topology.services)}"
                )
        if service.migrate and not service.database:
            raise UsageError(f"{path}: services.{name} has a migrate module and no database")
        if service.secrets and not service.database:
            raise UsageError(f"{path}: services.{name} has secrets, kept as long as its database, and no database")
        for grpc in service.grpc:
            if (other := owners.setdefault(grpc, name)) != name:
                raise UsageError(f"{path}: both {other} and {name} say that they serve {grpc}")
        for prefix, callers in service.http.items():
            if (other := owners.setdefault(prefix, name)) != name:
                raise UsageError(f"{path}: both {other} and {name} say that they serve {prefix}")
            for caller in callers:
                if caller not in (EVERYBODY, *topology.accounts):
                    raise UsageError(
                        f"{path}: services.{name}.http names {caller!r}, which is no account"
                        f"{near(caller, topology.accounts)}"
                    )
    _check_issuer(path, topology)


def _check_issuer(path: Path, topology: Topology) -> None:
    issuer = topology.issuer
    if issuer not in topology.services:
        raise UsageError(f"{path}: tokens.service is {issuer!r}, which is no service{near(issuer, topology.services)}")
    http = topology.services[issuer].http.items()
    if not any(JWKS_PATH.startswith(prefix) and EVERYBODY in callers for prefix, callers in http):
        raise UsageError(f"{path}: services.{issuer}.http must open {JWKS_PATH} to everybody: it issues the tokens")
    if BOOTSTRAP_SECRET not in topology.services[issuer].secrets:
        raise UsageError(f"{path}: services.{issuer}.secrets must have {BOOTSTRAP_SECRET}: it issues the tokens")


def _sentences(error: ValidationError) -> Iterable[str]:
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"] if part != "[key]")
        match fault["type"]:
            case "missing":
                yield f"{place} is missing"
            case "unexpected_keyword_argument":
                yield f"{place} is no setting{near(str(fault['loc'][-1]), _known(fault['loc']))}"
            case _:
                yield f"{place}: {fault['msg'].removeprefix('Value error, ')}"


def _known(location: tuple[int | str, ...]) -> Iterable[str]:
    match location:
        case ("services", _, "example", _):
            owner: type = Example
        case ("services", _, _):
            owner = Service
        case ("ingress", _):
            owner = Ingress
        case ("tokens", _):
            owner = Tokens
        case _:
            owner = Topology
    return owner.__annotations__


def near(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` when a known word is close, nothing otherwise."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
