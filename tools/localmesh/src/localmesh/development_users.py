"""Users for trying things by hand: an administrator, and one for each set of roles that is asked for."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from grpc_common.loopback import NO_PROXY
from localmesh.failure import MeshError, UsageError
from localmesh.files import keep_secret
from meshwork.auth.v1 import auth_service_pb2 as pb
from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceStub

if TYPE_CHECKING:
    from meshwork.auth.v1.auth_service_pb2_grpc import AuthServiceAsyncStub as Stub

DEFAULT_ROLES = ("editor",)
ROLE = re.compile(r"[a-z][a-z0-9_-]{0,63}")
LONGEST_NAME = 64
ANSWER_WITHIN = 10.0


@dataclass(frozen=True)
class User:
    """Somebody who can log in."""

    name: str
    password: str = field(repr=False)


class DevelopmentUsers:
    """Users with random passwords, in files of `folder` that only we may read, for as long as the database is there.

    All is done through the ingress that listens on `port`, as anybody has to do it; `roots` tells whom to trust (PEM).
    `bootstrap_secret` is the file with what makes the first administrator of a database.
    """

    def __init__(self, folder: Path, bootstrap_secret: Path, *, port: int, roots: Callable[[], bytes]) -> None:
        self._folder = folder
        self._bootstrap_secret = bootstrap_secret
        self._target = f"localhost:{port}"
        self._roots = roots
        self._turn = asyncio.Lock()

    async def seed(self) -> None:
        """Makes the administrator where this folder knows of none; raises MeshError when that is refused."""
        if not self._path(ADMINISTRATOR).is_file():
            async with self._auth() as auth:
                try:
                    await self._bootstrap(auth)
                except MeshError as refused:
                    raise MeshError(
                        f"{refused}; if {self._folder} was removed, remove the state folder as a whole, so that auth "
                        "knows nobody either"
                    ) from refused

    async def token(self, roles: Sequence[str] = DEFAULT_ROLES) -> str:
        """A new access token of the user with these roles; raises MeshError when there is none to be had."""
        user = await self.user(roles)
        async with self._auth() as auth:
            return (await _log_in(auth, user)).access_token

    async def user(self, roles: Sequence[str] = DEFAULT_ROLES) -> User:
        """The user with these roles, made when first asked for."""
        name = _name(roles)
        async with self._turn:
            if not self._path(name).is_file():
                async with self._auth() as auth:
                    await self._create(auth, name, sorted(set(roles)))
        return self._known(name)

    async def _bootstrap(self, auth: "Stub") -> None:
        secret = self._bootstrap_secret.read_text()

        def bootstrap(user: User) -> Awaitable[pb.User]:
            first = pb.BootstrapAdminRequest(secret=secret, username=user.name, password=user.password)
            return auth.BootstrapAdmin(first, timeout=ANSWER_WITHIN)

        await self._make(auth, ADMINISTRATOR, bootstrap)

    async def _create(self, auth: "Stub", name: str, roles: Sequence[str]) -> None:
        administrator = await _log_in(auth, self._known(ADMINISTRATOR))
        metadata = (("authorization", f"Bearer {administrator.access_token}"),)

        def create(user: User) -> Awaitable[pb.User]:
            new = pb.CreateUserRequest(username=user.name, password=user.password, roles=roles)
            return auth.CreateUser(new, timeout=ANSWER_WITHIN, metadata=metadata)

        await self._make(auth, name, create)

    async def _make(self, auth: "Stub", name: str, create: Callable[[User], Awaitable[pb.User]]) -> None:
        """Makes a user. One whose making was cut short before we heard of it is there, and known by its password."""
        pending = self._folder / f".{name}"
        user = User(name, keep_secret(pending))
        try:
            await _answer(create(user))
        except MeshError as refused:
            try:
                await _log_in(auth, user)
            except MeshError:
                raise refused from None
        pending.rename(self._path(name))

    def _known(self, name: str) -> User:
        return User(name, keep_secret(self._path(name)))

    def _path(self, name: str) -> Path:
        return self._folder / name

    @asynccontextmanager
    async def _auth(self) -> AsyncIterator["Stub"]:
        credentials = grpc.ssl_channel_credentials(self._roots())
        async with grpc.aio.secure_channel(self._target, credentials, [NO_PROXY]) as channel:
            yield AuthServiceStub(channel)


async def _log_in(auth: "Stub", user: User) -> pb.TokenPair:
    request = pb.LoginRequest(username=user.name, password=user.password)
    return await _answer(auth.Login(request, timeout=ANSWER_WITHIN))


async def _answer[T](call: Awaitable[T]) -> T:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise MeshError(f"auth refuses: {error.code().name}: {error.details()}") from error


def _name(roles: Sequence[str]) -> str:
    """`developer` with the roles: as they are where a name may be so long, by their hash where not."""
    for role in roles:
        if not ROLE.fullmatch(role):
            raise UsageError(f"{role!r} is no role: a small letter, then small letters, digits, _ and -")
    named = ".".join(("developer", *sorted(set(roles))))
    if len(named) <= LONGEST_NAME:
        return named
    return f"developer.{hashlib.sha256(named.encode()).hexdigest()[:16]}"


ADMINISTRATOR = _name(["admin"])
