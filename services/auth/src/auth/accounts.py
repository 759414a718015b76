"""The accounts of users: how they come to be, their passwords, and what they may do."""

import hmac
from collections.abc import Callable, Iterable
from datetime import datetime

from pydantic import SecretStr

from auth.audit import Kind
from auth.caller import Caller
from auth.credentials import Credentials
from auth.password import PasswordHasher
from auth.password_policy import PasswordPolicy
from auth.recorder import Recorder
from auth.repository import Users
from auth.user import ADMIN, User, account_of
from grpc_common.errors import AbortedError, ForbiddenError, NotFoundError

NO_BOOTSTRAP = "there is no first administrator to be created with that secret"


class Accounts:
    """Creates users and changes them. `bootstrap` is the one-time secret, empty where nobody may use it."""

    def __init__(
        self,
        users: Users,
        hasher: PasswordHasher,
        policy: PasswordPolicy,
        credentials: Credentials,
        recorder: Recorder,
        *,
        bootstrap: SecretStr,
        registration: bool,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        self._users = users
        self._hasher = hasher
        self._policy = policy
        self._credentials = credentials
        self._recorder = recorder
        self._bootstrap = bootstrap
        self._registration = registration
        self._clock = clock
        self._new_id = new_id

    async def bootstrap(self, secret: SecretStr, username: str, password: SecretStr, caller: Caller) -> User:
        """Create the first administrator.

        Raises:
            ForbiddenError: the secret is not the one, or has been used.
            ValidationError: the password is too weak.
            ConflictError: another user has the name.
        """
        given, expected = (
            each.get_secret_value().encode("utf-8", "surrogatepass") for each in (secret, self._bootstrap)
        )
        if not expected or not hmac.compare_digest(given, expected):
            await self._recorder.record(Kind.BOOTSTRAP_REFUSED, caller, reason="wrong_secret")
            raise ForbiddenError(NO_BOOTSTRAP)
        user = await self._new(username, password, {ADMIN})
        event = self._recorder.event(Kind.BOOTSTRAPPED, caller, subject=user.id, roles=(ADMIN,))
        if not await self._users.add_first_admin(user, event):
            await self._recorder.record(Kind.BOOTSTRAP_REFUSED, caller, reason="used_secret")
            raise ForbiddenError(NO_BOOTSTRAP)
        return user

    async def register(self, username: str, password: SecretStr, caller: Caller) -> User:
        """Create a user without roles, for whoever asks.

        Raises:
            ForbiddenError: the service does not let people register.
            ValidationError: the password is too weak.
            ConflictError: another user has the name.
        """
        if not self._registration:
            raise ForbiddenError("nobody can register here: ask an administrator for a user")
        user = await self._new(username, password, ())
        event = self._recorder.event(Kind.USER_CREATED, caller, subject=user.id, reason="registered")
        await self._users.add(user, event)
        return user

    async def create(self, username: str, password: SecretStr, roles: Iterable[str], caller: Caller) -> User:
        """Create a user with roles, as an administrator wants; raises as `register` does."""
        user = await self._new(username, password, roles)
        given = tuple(sorted(user.roles))
        await self._users.add(user, self._recorder.event(Kind.USER_CREATED, caller, subject=user.id, roles=given))
        return user

    async def get(self, user_id: str) -> User:
        """Return a user; raise NotFoundError when there is none."""
        user = await self._users.get(user_id)
        if user is None:
            raise NotFoundError("there is no such user")
        return user

    async def change_password(
        self,
        user_id: str,
        current: SecretStr,
        wanted: SecretStr,
        caller: Caller,
        *,
        keep: str = "",
        session: str = "",
    ) -> None:
        """Give a user another password and end all sessions but `keep`; `session` is the one that the caller is in.

        Raises:
            LoginRefusedError: the current password is not the user's.
            ValidationError: for `new_password`, when the wanted one is too weak.
            RateLimitError: too many tries.
            AbortedError: the password was changed by somebody else at the same moment.
        """
        user = await self.get(user_id)
        user = await self._credentials.prove(user.username, current, caller, session=session)
        self._policy.check(wanted, user.username, field="new_password")
        kept, password_hash = user.password_hash, await self._hasher.hash(wanted)
        event = self._recorder.event(Kind.PASSWORD_CHANGED, caller, subject=user.id)
        if not await self._users.set_password(user.id, kept, password_hash, event, keep=keep):
            raise AbortedError("the password was changed at the same moment: try again with the one that it is now")

    async def set_roles(self, user_id: str, roles: Iterable[str], etag: str, caller: Caller) -> User:
        """Give a user exactly these roles; raises as `Users.set_roles` does."""
        wanted = frozenset(roles)
        event = self._recorder.event(Kind.ROLES_CHANGED, caller, subject=user_id, roles=tuple(sorted(wanted)))
        return await self._users.set_roles(user_id, wanted, etag, event)

    async def set_disabled(self, user_id: str, etag: str, caller: Caller, *, disabled: bool) -> User:
        """Say whether a user may log in; who may not has no session any more. Raises as `Users.set_disabled` does."""
        kind = Kind.USER_DISABLED if disabled else Kind.USER_ENABLED
        event = self._recorder.event(kind, caller, subject=user_id)
        return await self._users.set_disabled(user_id, disabled, etag, event)

    async def _new(self, username: str, password: SecretStr, roles: Iterable[str]) -> User:
        name = account_of(username)
        self._policy.check(password, name)
        password_hash = await self._hasher.hash(password)
        now = self._clock()
        return User(
            id=self._new_id(),
            username=name,
            password_hash=password_hash,
            roles=frozenset(roles),
            disabled=False,
            created_at=now,
            updated_at=now,
            version=0,
        )
