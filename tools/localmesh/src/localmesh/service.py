"""How the process of a service is run beside its sidecar."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localmesh import ports
from localmesh.environment import handed_on
from localmesh.envoy.clusters import NOTICED_WITHIN
from localmesh.failure import UsageError
from localmesh.files import private_folder, write_secret
from localmesh.process import Command
from localmesh.topology import Service, Tokens
from localmesh.workload import Workload

# Who says NOT_SERVING goes on serving until the ingress has certainly seen it: so no call need be repeated.
LAME_DUCK_SECONDS = 2 * NOTICED_WITHIN
DRAIN_SECONDS = 5
SPANS = {"OTEL_BSP_SCHEDULE_DELAY": "500"}  # milliseconds: who looks at a trace looks at once
PYTHONPATH = "PYTHONPATH"
STOP_WITHIN = LAME_DUCK_SECONDS + DRAIN_SECONDS + 5.0


@dataclass(frozen=True)
class Keys:
    """Where the keys are that tokens are verified with: a URL, and the Unix socket that leads to it."""

    jwks: str
    socket: Path


@dataclass(frozen=True)
class Signing:
    """How a service gets at its signing key: OpenBao's URL, and the file with what is good for one secret id."""

    url: str
    wrapped_secret_id: Path


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the mesh gives a service: the folder of its secrets, whose tokens it is to accept, where to send spans."""

    secrets: Path
    keys: Keys | None
    """`None` for the issuer, who has them."""
    signing: Signing | None
    """`None` for a service that does not sign."""
    tokens: Tokens
    traces_port: int
    targets: Mapping[str, Path]
    """The Unix socket by which each of the services it calls is reached."""
    asked: Mapping[str, str]
    """Further variables, by their whole names, that the one who starts the mesh wants it to have."""


def serve(workload: Workload, given: Given) -> Command:
    """The command that serves."""
    private_folder(given.secrets)  # a service without secrets has a folder for them all the same
    module = workload.service.module
    return Command(
        name=workload.name,
        argv=_python(module),
        env=_environment(workload, given),
        cwd=workload.socket.parent,
        stop_within=STOP_WITHIN,
    )


def migrate(workload: Workload, module: str, given: Given) -> Command:
    """The command that brings the database up to date, and ends."""
    return Command(
        name=f"{workload.service_name}-migrate",
        argv=_python(module),
        env=_environment(workload, given),
        cwd=workload.socket.parent,
    )


def write_setting(workload: Workload, secrets: Path, setting: str, value: str) -> None:
    """Puts a secret where the service's settings look for it: `setting`, one of `in_files`."""
    if setting not in in_files(workload.service):
        raise ValueError(f"{setting} is not known to be given to {workload.service_name}")
    write_secret(private_folder(secrets) / f"{workload.service.env_prefix}{setting}".lower(), value)


def in_files(service: Service) -> frozenset[str]:
    """The settings, without the prefix, that the mesh gives a service in its folder of secrets."""
    wanted = {"DATABASE_URL": service.database, "CACHE_URL": service.cache, "VAULT_ROLE_ID": bool(service.transit)}
    return frozenset({"REVOCATIONS_URL", *service.secrets, *(name for name, needed in wanted.items() if needed)})


def check(workload: Workload, given: Given) -> None:
    """Raises `UsageError` where the topology or who starts the mesh sets what the mesh itself gives the service."""
    prefix = workload.service.env_prefix
    ours = {f"{prefix}{name}" for name in (*_own(workload, given), *in_files(workload.service))}
    models = {name.partition("__")[0] for name in ours}  # a model may come as a whole, as one JSON text
    described = [f"{prefix}{name}" for name in workload.service.env]
    taken = {*ours, *models, *SPANS, PYTHONPATH}
    for name, others in (
        *((name, taken) for name in described),
        *((name, taken | {*described}) for name in given.asked),
    ):
        if name.upper() in others:
            raise UsageError(f"{name} cannot be set: it is what the mesh itself gives {workload.service_name}")


def _python(module: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", module)


def _environment(workload: Workload, given: Given) -> dict[str, str]:
    """Made of what the mesh and its topology say; of ours only what any program needs."""
    own = {**workload.service.env, **_own(workload, given)}
    prefixed = {f"{workload.service.env_prefix}{name}": value for name, value in own.items()}
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    return {**handed_on(), **given.asked, **SPANS, **prefixed, PYTHONPATH: path}


def _own(workload: Workload, given: Given) -> dict[str, str]:
    """The settings, without the prefix, that are no secrets."""
    return {
        "GRPC__ENABLED": "true",
        "GRPC__UNIX_SOCKET": str(workload.socket),
        "GRPC__LAME_DUCK_SECONDS": str(LAME_DUCK_SECONDS),
        "GRPC__DRAIN_SECONDS": str(DRAIN_SECONDS),
        "METRICS_PORT": str(workload.metrics_port),
        "AUTH__ISSUER": given.tokens.issuer,
        "AUTH__AUDIENCE": given.tokens.audience,
        **_keys(given.keys),
        **_http(workload),
        **_signing(workload, given.signing),
        "SECRETS_DIR": str(given.secrets),
        "OTLP_ENDPOINT": f"http://{ports.LOOPBACK}:{given.traces_port}",
        **{workload.service.calls[name]: f"unix:{socket}" for name, socket in given.targets.items()},
    }


def _keys(keys: Keys | None) -> dict[str, str]:
    if keys is None:
        return {}
    return {"AUTH__JWKS": keys.jwks, "AUTH__JWKS_SOCKET": str(keys.socket)}


def _http(workload: Workload) -> dict[str, str]:
    if not workload.http:
        return {}
    return {"HTTP__ENABLED": "true", "HTTP__UNIX_SOCKET": str(workload.http_socket)}


def _signing(workload: Workload, signing: Signing | None) -> dict[str, str]:
    if signing is None or (key := workload.service.transit) is None:
        return {}
    return {
        "KEY_NAME": key,
        "VAULT_URL": signing.url,
        "VAULT_WRAPPED_SECRET_ID_FILE": str(signing.wrapped_secret_id),
    }
