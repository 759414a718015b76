"""What the settings of auth do, beside those of every service."""

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial

import grpc
import httpx
import jwt
import pydantic
import pytest
from argon2 import extract_parameters
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from pydantic import SecretBytes, SecretStr
from redis.asyncio import Redis
from served import BOOTSTRAP, CHEAP, PATIENT, calling
from sqlalchemy import select
from token_review import token_reviews

from auth.guard import Attempt
from auth.main import build
from auth.open_guard import open_guard
from auth.settings import AuthServiceSettings, IssuerSettings
from auth.table import FAMILIES, OUTBOX, USERS
from database_effects import LONG, PATIENCE, until
from effects import shows
from grpc_common.database.engine import open_engine
from grpc_common.errors import AppException, RateLimitError
from grpc_common.outbox.telling import telling
from localmesh import child, ports
from localmesh.certificates import Identity
from localmesh.parts.openbao import OpenBao
from localmesh.parts.valkey import SUPERUSER, Valkey
from localmesh.testing import install_self_signed
from localmesh.transit import SigningRole
from meshwork.auth.v1 import auth_service_pb2 as pb

SETTINGS = AuthServiceSettings
ISSUER = ("issuer", "audience")
PASSWORD = "correct horse battery staple"


def settings_in(folder, **settings):
    """Settings of a service that keeps in the folder what they do not say otherwise."""
    usual = {
        "database_url": f"sqlite+aiosqlite:///{folder}/auth.db",
        "key_file": folder / "keys.json",
        "refresh_file": folder / "refresh",
        "bootstrap_secret": BOOTSTRAP,
    }
    return AuthServiceSettings(**{**usual, **CHEAP, **PATIENT, **settings})


@asynccontextmanager
async def serving(folder, **settings):
    """A client of the service of those settings."""
    chosen = settings_in(folder, **settings)
    async with build(chosen) as application, calling(application) as auth:
        auth.application, auth.settings = application, chosen
        yield auth


async def status(call):
    """The name of the status that the call ends with."""
    with suppress(grpc.aio.AioRpcError):
        await call
    return (await call.code()).name


async def bootstrap(auth):
    """Make alice, where she is not there already."""
    request = pb.BootstrapAdminRequest(username="alice", password=PASSWORD, secret=BOOTSTRAP)
    return await status(auth.BootstrapAdmin(request, timeout=PATIENCE))


def try_login(auth, password=PASSWORD, **more):
    return auth.Login(pb.LoginRequest(username="alice", password=password, **more), timeout=PATIENCE)


async def login(auth, **more):
    await bootstrap(auth)
    return await try_login(auth, **more)


def refresh(auth, pair):
    return auth.Refresh(pb.RefreshRequest(refresh_token=pair.refresh_token), timeout=PATIENCE)


def claims(pair):
    return jwt.decode(pair.access_token, options={"verify_signature": False})


async def rows(folder, table, **settings):
    chosen = settings_in(folder, **settings)
    url = chosen.database_url.get_secret_value()
    async with open_engine(url, chosen.database_limits) as engine, engine.connect() as connection:
        return (await connection.execute(select(table))).mappings().all()


@asynccontextmanager
async def pages(auth):
    """A client of what the service serves over HTTP."""
    transport = httpx.ASGITransport(app=auth.application.http)
    async with httpx.AsyncClient(transport=transport, base_url="http://auth") as http:
        yield http


async def keys(auth):
    async with pages(auth) as http:
        return [key["kid"] for key in (await http.get("/.well-known/jwks.json")).json()["keys"]]


@shows(SETTINGS, "grpc", "http")
async def served(folder):
    grpc_port, http_port = ports.free_port(), ports.free_port()
    target = f"127.0.0.1:{grpc_port}"
    settings = {"AUTH_GRPC__PORT": str(grpc_port), "AUTH_HTTP__PORT": str(http_port)}
    settings |= {"AUTH_AUTH__ISSUER": "http://127.0.0.1:8081", "AUTH_AUTH__AUDIENCE": "meshwork"}
    async with child.serving("auth.main", target, folder, **settings), httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(f"http://127.0.0.1:{http_port}/.well-known/jwks.json")).status_code == 200


@shows(SETTINGS, "auth")
@shows(IssuerSettings, *ISSUER)
async def issuer(folder):
    for name in ("https://one.test", "https://two.test"):
        async with serving(folder, auth=IssuerSettings(issuer=name, audience=f"{name}/all")) as auth:
            told = claims(await login(auth))
            assert (told["iss"], told["aud"]) == (name, f"{name}/all")


@shows(IssuerSettings, "algorithms")
async def algorithms(folder):
    with pytest.raises(pydantic.ValidationError, match="algorithms unset"):
        IssuerSettings(issuer="https://one.test", audience="all", algorithms=("ES256",))


@shows(SETTINGS, "database_url")
async def database_url(folder):
    for name in ("one", "two"):
        async with serving(folder, database_url=f"sqlite+aiosqlite:///{folder}/{name}.db"):
            assert (folder / f"{name}.db").is_file()


@shows(SETTINGS, "relay_pause")
async def relay_pause(folder):
    waits = {}
    for seconds in (0.01, LONG):
        async with serving(folder, relay=False) as auth:
            pair = await login(auth)
            await auth.Logout(pb.LogoutRequest(refresh_token=pair.refresh_token), timeout=PATIENCE)
        chosen = settings_in(folder, relay_pause=seconds, relay_poll=0.01)
        publisher, clock = Unwilling(), partial(datetime.now, UTC)
        url, limits = chosen.database_url.get_secret_value(), chosen.database_limits
        async with telling(url, limits, OUTBOX, publisher, chosen.relay_limits, clock, application="t"):
            await until(lambda: publisher.waited)  # noqa: B023
        waits[seconds] = max(publisher.waited)
    # Doubled from 0.2 s on they are at least 0.1 + 0.2 + 0.4 + 0.8 + 1.6 s together.
    assert waits[LONG] >= 3.1
    assert waits[0.01] < waits[LONG]


class Unwilling:
    """Takes an event when it comes for the sixth time, and notes how long that took."""

    def __init__(self):
        self.waited = []
        self._seen = {}

    async def publish(self, event):
        seen = self._seen.setdefault(event.id, [])
        seen.append(time.monotonic())
        if len(seen) < 6:
            raise ConnectionError("not now")
        self.waited.append(seen[-1] - seen[0])


@shows(SETTINGS, "token_lifetime")
async def token_lifetime(folder):
    for seconds in (60, 300):
        async with serving(folder, token_lifetime=seconds) as auth:
            told = claims(await login(auth))
            assert told["exp"] - told["iat"] == seconds


@shows(SETTINGS, "user_scopes")
async def user_scopes(folder):
    for scopes in ((), ("items:read",)):
        async with serving(folder, user_scopes=scopes) as auth:
            await bootstrap(auth)
            call = try_login(auth, scopes=["items:read"])
            got = await status(call)
            assert (got == "OK" and list((await call).scopes) == ["items:read"]) is bool(scopes)


@shows(SETTINGS, "refresh_idle", "refresh_absolute")
async def refresh_lifetimes(folder):
    for idle, absolute in ((100.0, 1000.0), (500.0, 1000.0), (100.0, 100.0)):
        async with serving(folder, refresh_idle=idle, refresh_absolute=absolute, refresh_grace=1) as auth:
            began = time.time()
            pair = await login(auth)
            assert idle - 1 <= pair.refresh_expires_at.seconds - began < idle + PATIENCE
            await asyncio.sleep(2.1)
            later = await refresh(auth, pair)
            grown = later.refresh_expires_at.seconds - pair.refresh_expires_at.seconds
            assert (grown >= 1) is (absolute > idle)


@shows(SETTINGS, "refresh_grace")
async def refresh_grace(folder):
    for seconds, again in ((LONG, "OK"), (0, "UNAUTHENTICATED")):
        async with serving(folder, refresh_grace=seconds) as auth:
            pair = await login(auth)
            await refresh(auth, pair)
            await asyncio.sleep(0.2)
            assert await status(refresh(auth, pair)) == again


@shows(SETTINGS, "refresh_secrets")
async def refresh_secrets(folder):
    # A repeat within the grace gets the successor that was made of the secret of that time.
    old, new = "ab" * 32, "cd" * 32
    async with serving(folder, refresh_secrets=old, refresh_grace=LONG) as auth:
        pairs = [await login(auth), await login(auth)]
        successors = [await refresh(auth, pair) for pair in pairs]
    async with serving(folder, refresh_secrets=f"{new},{old}", refresh_grace=LONG) as auth:
        assert (await refresh(auth, pairs[0])).refresh_token == successors[0].refresh_token
    async with serving(folder, refresh_secrets=new, refresh_grace=LONG) as auth:
        assert await status(refresh(auth, pairs[1])) != "OK"


@shows(SETTINGS, "refresh_file", "key_file")
async def files(folder):
    for name in ("one", "two"):
        async with serving(folder, refresh_file=folder / f"{name}.refresh", key_file=folder / f"{name}.keys") as auth:
            await login(auth)
        assert (folder / f"{name}.refresh").is_file()
        assert (folder / f"{name}.keys").is_file()


@shows(SETTINGS, "key_algorithm")
async def key_algorithm(folder):
    for algorithm in ("ES256", "EdDSA"):
        async with serving(folder, key_algorithm=algorithm, key_file=folder / algorithm) as auth:
            assert jwt.get_unverified_header((await login(auth)).access_token)["alg"] == algorithm


@shows(SETTINGS, "key_ahead")
async def key_ahead(folder):
    for seconds in (100.0, 500.0):
        async with serving(folder, key_ahead=seconds, key_file=folder / str(seconds)) as auth:
            pair = await login(auth)
            metadata = (("authorization", f"Bearer {pair.access_token}"),)
            began = time.time()
            made = await auth.RotateSigningKey(pb.RotateSigningKeyRequest(), metadata=metadata, timeout=PATIENCE)
            assert seconds - 2 <= made.signs_from.seconds - began < seconds + PATIENCE


@shows(SETTINGS, "key_period")
async def key_period(folder):
    for seconds, more in ((2.0, True), (30 * 24 * 3600.0, False)):
        settings = {"key_period": seconds, "key_ahead": 0.5, "key_read": 0.2, "token_lifetime": 1}
        async with serving(folder, **settings, key_file=folder / str(seconds)) as auth:
            first = await keys(auth)
            if more:
                async with asyncio.timeout(PATIENCE):
                    while set(await keys(auth)) <= set(first):  # noqa: ASYNC110
                        await asyncio.sleep(0.1)
            else:
                await asyncio.sleep(3.0)
                assert await keys(auth) == first


@shows(SETTINGS, "key_read")
async def key_read(folder):
    for seconds, learns in ((0.2, True), (500.0, False)):
        file, settings = folder / f"{seconds}.keys", {"key_read": seconds, "key_ahead": 550.0}
        async with (
            serving(folder, key_file=file, **settings) as one,
            serving(folder, key_file=file, **settings) as other,
        ):
            pair = await login(one)
            first = await keys(other)
            metadata = (("authorization", f"Bearer {pair.access_token}"),)
            await one.RotateSigningKey(pb.RotateSigningKeyRequest(), metadata=metadata, timeout=PATIENCE)
            if learns:
                async with asyncio.timeout(PATIENCE):
                    while await keys(other) == first:  # noqa: ASYNC110
                        await asyncio.sleep(0.1)
            else:
                await asyncio.sleep(1.5)
                assert await keys(other) == first


@asynccontextmanager
async def openbao(folder):
    """A client of an OpenBao that may do everything."""
    async with OpenBao(folder / "data", folder / "openbao.log") as server:
        yield await asyncio.to_thread(server.client)


@shows(SETTINGS, "vault_url", "vault_mount", "vault_role_id", "vault_wrapped_secret_id_file", "key_name")
async def in_openbao(folder):
    async with openbao(folder) as root:
        for mount, name in (("transit", "access"), ("elsewhere", "other")):
            role = SigningRole(root, f"auth-{name}", name, mount=mount)
            await asyncio.to_thread(role.set_up)
            secret = root.auth.approle.generate_secret_id(f"auth-{name}", wrap_ttl="60s")["wrap_info"]["token"]
            (folder / name).write_text(secret)
            settings = {
                "vault_url": root.url,
                "vault_mount": mount,
                "vault_role_id": await asyncio.to_thread(role.role_id),
                "vault_wrapped_secret_id_file": folder / name,
                "key_name": name,
                "key_file": folder / "unused",
            }
            async with serving(folder, **settings) as auth:
                await login(auth)
            assert root.secrets.transit.list_keys(mount_point=mount)["data"]["keys"] == [name]
            assert not (folder / name).exists()  # used up
        assert not (folder / "unused").exists()


@shows(SETTINGS, "vault_kubernetes_role", "vault_kubernetes_token_file")
async def as_a_pod(folder):
    async with openbao(folder) as root:
        role = SigningRole(root, "auth-pod", "access")
        await asyncio.to_thread(role.set_up)
        token = _pod_token("mesh", "auth")
        (folder / "token").write_text(token)
        async with token_reviews({token: ("mesh", "auth")}) as api:
            await asyncio.to_thread(_kubernetes, root, api, folder)
            settings = {
                "vault_url": root.url,
                "vault_kubernetes_role": "pods",
                "vault_kubernetes_token_file": folder / "token",
            }
            async with serving(folder, **settings) as auth:
                await login(auth)
            assert root.secrets.transit.list_keys()["data"]["keys"] == ["access"]
            for wrong in ({"vault_kubernetes_role": "nobody"}, {"vault_kubernetes_token_file": folder / "no"}):
                with pytest.raises(AppException):
                    async with serving(folder, **{**settings, **wrong}):
                        pass


def _pod_token(namespace, name):
    """What Kubernetes puts into a pod; whether it is genuine is for Kubernetes to say."""
    now = int(time.time())
    words = {
        "iss": "https://kubernetes.default.svc.cluster.local",
        "sub": f"system:serviceaccount:{namespace}:{name}",
        "aud": ["https://kubernetes.default.svc.cluster.local"],
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": f"uid-of-{name}"}},
    }
    return jwt.encode(words, generate_private_key(SECP256R1()), "ES256")


def _kubernetes(root, api, folder):
    certificate = Identity("kubernetes", folder / "kubernetes")
    install_self_signed(certificate)
    root.sys.enable_auth_method("kubernetes")
    config = {"kubernetes_host": api, "disable_local_ca_jwt": True, "kubernetes_ca_cert": certificate.ca.read_text()}
    root.write_data("auth/kubernetes/config", data=config)
    role = {
        "bound_service_account_names": ["auth"],
        "bound_service_account_namespaces": ["mesh"],
        "token_policies": ["auth-pod-signs"],
    }
    root.write_data("auth/kubernetes/role/pods", data=role)


@shows(SETTINGS, "registration")
async def registration(folder):
    for wanted in (True, False):
        async with serving(folder, registration=wanted) as auth:
            call = auth.Register(
                pb.RegisterRequest(username=f"new-{wanted}".lower(), password=PASSWORD), timeout=PATIENCE
            )
            assert (await status(call) == "OK") is wanted


@shows(SETTINGS, "bootstrap_secret")
async def bootstrap_secret(folder):
    for name, secret, expected in (("right", BOOTSTRAP, "OK"), ("wrong", "x" * 40, "")):
        url = f"sqlite+aiosqlite:///{folder}/{name}.db"
        chosen = settings_in(folder, database_url=url).model_copy(update={"bootstrap_secret": SecretStr(secret)})
        async with build(chosen) as application, calling(application) as auth:
            assert (await bootstrap(auth) == "OK") is (expected == "OK")


@shows(SETTINGS, "password_shortest")
async def password_shortest(folder):
    for shortest, expected in ((8, "OK"), (20, "INVALID_ARGUMENT")):
        async with serving(folder, registration=True, password_shortest=shortest) as auth:
            request = pb.RegisterRequest(username=f"user-{shortest}", password="kx7-Wq9-zu2")
            assert await status(auth.Register(request, timeout=PATIENCE)) == expected


@shows(SETTINGS, "password_passes", "password_memory", "password_lanes")
async def password_cost(folder):
    for passes, memory, lanes in ((1, 1024, 1), (3, 2048, 2)):
        url = f"sqlite+aiosqlite:///{folder}/{passes}.db"
        cost = {"password_passes": passes, "password_memory": memory, "password_lanes": lanes}
        async with serving(folder, database_url=url, **cost) as auth:
            await login(auth)
        (user,) = await rows(folder, USERS, database_url=url)
        kept = extract_parameters(user["password_hash"].get_secret_value())
        assert (kept.time_cost, kept.memory_cost, kept.parallelism) == (passes, memory, lanes)


@shows(SETTINGS, "password_at_once", "password_waiting")
async def password_turns(folder):
    admitted = {}
    for at_once, waiting in ((1, 0), (8, 0), (1, 100)):
        settings = {"password_at_once": at_once, "password_waiting": waiting}
        async with serving(folder, **settings, password_passes=60, guard_failures=1000) as auth:
            await bootstrap(auth)
            answers = await asyncio.gather(*(status(try_login(auth)) for _ in range(16)))
        admitted[at_once, waiting] = answers.count("OK")
    assert admitted[1, 0] < admitted[8, 0], admitted
    assert admitted[1, 0] < admitted[1, 100] == 16, admitted


@shows(SETTINGS, "password_grant")
async def password_grant(folder):
    for wanted in (True, False):
        async with serving(folder, password_grant=wanted) as auth, pages(auth) as http:
            told = (await http.get("/.well-known/oauth-authorization-server")).json()
            assert ("password" in told["grant_types_supported"]) is wanted
            form = {"grant_type": "password", "username": "x", "password": "y"}
            answer = await http.post("/oauth2/token", data=form)
            assert (answer.json().get("error") == "unsupported_grant_type") is not wanted


@shows(SETTINGS, "guard_failures", "guard_pause")
async def guard_failures(folder):
    cases = ((2, LONG, 0.0, "UNAUTHENTICATED"), (9, LONG, 0.0, "OK"), (2, 0.3, 2.0, "OK"))
    for failures, pause, wait, expected in cases:
        async with serving(folder, guard_failures=failures, guard_pause=pause) as auth:
            await bootstrap(auth)
            for _ in range(2):
                assert await status(try_login(auth, "wrong password!")) == "UNAUTHENTICATED"
            await asyncio.sleep(wait)
            assert await status(try_login(auth)) == expected


@shows(SETTINGS, "guard_longest_pause")
async def guard_longest_pause(folder):
    for longest, free in ((1.0, True), (LONG, False)):
        chosen = settings_in(folder, guard_failures=1, guard_pause=1.0, guard_longest_pause=longest)
        async with open_guard(chosen.cache_url, chosen.guard_limits, SecretBytes(bytes(32))) as (guard, _):
            attempt = Attempt("alice", "")
            for pause in (1.1, 1.1 if free else 2.1):
                assert await guard.enter(attempt)
                await guard.failed(attempt)
                await asyncio.sleep(pause)
            assert await guard.enter(attempt)
            await guard.failed(attempt)
            await asyncio.sleep(1.3)
            assert await guard.enter(attempt) is free


@shows(SETTINGS, "guard_address_rate", "guard_address_burst")
async def guard_address(folder):
    for burst, rate in ((2, 0.01), (5, 0.001)):
        chosen = settings_in(folder, guard_address_burst=burst, guard_address_rate=rate)
        async with open_guard(chosen.cache_url, chosen.guard_limits, SecretBytes(bytes(32))) as (guard, _):
            for number in range(burst):
                await guard.enter(Attempt(f"user-{number}", "192.0.2.1"))
            with pytest.raises(RateLimitError) as caught:
                await guard.enter(Attempt("last", "192.0.2.1"))
            assert 0.5 / rate < caught.value.retry_after <= 1 / rate


@shows(SETTINGS, "cache_url")
async def cache_url(folder):
    async with Valkey(folder / "valkey", users=["auth"]) as valkey:
        for url in ("", valkey.url("auth")):
            async with serving(folder, cache_url=url) as auth:
                await bootstrap(auth)
                await status(try_login(auth, "wrong password!"))
            async with Redis.from_url(valkey.url(SUPERUSER)) as client:
                assert bool(await client.keys("auth:*")) is bool(url)


@shows(SETTINGS, "upkeep_interval")
async def upkeep_interval(folder):
    for seconds, forgotten in ((0.2, True), (LONG, False)):
        url = f"sqlite+aiosqlite:///{folder}/{seconds}.db"
        short = {"refresh_idle": 1.0, "refresh_absolute": 1.0, "refresh_grace": 0}
        async with serving(folder, database_url=url, upkeep_interval=seconds, **short) as auth:
            await login(auth)
            if forgotten:
                async with asyncio.timeout(PATIENCE):
                    while await rows(folder, FAMILIES, database_url=url):  # noqa: ASYNC110
                        await asyncio.sleep(0.2)
            else:
                await asyncio.sleep(3.0)
                assert await rows(folder, FAMILIES, database_url=url)
