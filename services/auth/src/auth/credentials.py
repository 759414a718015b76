"""Whether a name and a password are those of a user who may log in."""

import asyncio
from dataclasses import replace

from pydantic import SecretStr

from auth.audit import Kind
from auth.caller import Caller
from auth.guard import Attempt, LoginGuard
from auth.password import PasswordHasher
from auth.recorder import Recorder
from auth.repository import Users
from auth.turns import Turns
from auth.user import User, account_of
from grpc_common.errors import AppException, RateLimitError, UnauthorizedError


class LoginRefusedError(UnauthorizedError):
    """Name and password are not those of a user who may log in now; which of it is for the log and not for the
    caller.
    """

    reason = "LOGIN_REFUSED"

    def __init__(self) -> None:
        super().__init__("the user name or the password is wrong")


class Credentials:
    """Judges names and passwords: a wrong password, an unknown user, a disabled and a locked one all have the same
    answer, after the same work (OWASP Authentication Cheat Sheet).
    """

    def __init__(
        self, users: Users, hasher: PasswordHasher, turns: Turns, guard: LoginGuard, recorder: Recorder
    ) -> None:
        self._users = users
        self._hasher = hasher
        self._turns = turns
        self._guard = guard
        self._recorder = recorder

    async def prove(
        self, username: str, password: SecretStr, caller: Caller, client_id: str = "", *, session: str = ""
    ) -> User:
        """Return the user; `client_id` is the program that it is tried with, and `session` the one of that user that
        whoever asks has proved to be in: what others try elsewhere does not hold it up.

        Raises:
            LoginRefusedError: it is none.
            RateLimitError: the address tries too often, or too many passwords are being checked at once, of the account
                or of all.
            ExternalServiceError: the database cannot be reached.
        """
        attempt = Attempt(account_of(username), caller.address, session)
        open_ = await self._guard.enter(attempt)
        begun = False
        try:
            async with self._turns.turn():  # so that who waits for a thread holds nothing of the database
                begun = True
                user = await self._users.find(attempt.account)
                verdict = await self._hasher.verify(password, user.password_hash if user is not None else None)
        except AppException:
            if open_:
                await self._guard.undecided(attempt)
            raise
        except asyncio.CancelledError:
            # Who gave up in the queue has tried nothing; later it counts, or giving up were a way around the guard.
            if open_ and not begun:
                await asyncio.shield(self._guard.undecided(attempt))
            raise
        if user is None or user.disabled or not open_ or not verdict.right:
            if open_:
                await self._guard.failed(attempt)
            known = user.id if user is not None else ""
            reason = _reason(user) if open_ else "locked"
            await self._recorder.record(Kind.LOGIN_FAILED, caller, subject=known, client_id=client_id, reason=reason)
            raise LoginRefusedError
        await self._guard.succeeded(attempt)
        return await self._rehashed(user, password) if verdict.outdated else user

    async def recognise(self, user: User, caller: Caller) -> None:
        """Note that the user, who has proved to be in a session, is where the caller is."""
        await self._guard.recognised(Attempt(user.username, caller.address))

    async def _rehashed(self, user: User, password: SecretStr) -> User:
        """Keep a hash at today's cost, if there is time for it now, and return the user with it."""
        try:
            password_hash = await self._hasher.hash(password)
            if await self._users.rehash(user.id, user.password_hash, password_hash):
                return replace(user, password_hash=password_hash)
            # Another login was faster, or somebody took the password away: the session will not begin then.
            now = await self._users.get(user.id)
            same = now is not None and (await self._hasher.verify(password, now.password_hash)).right
        except RateLimitError:
            return user
        return now if now is not None and same else user


def _reason(user: User | None) -> str:
    if user is None:
        return "unknown_user"
    return "disabled" if user.disabled else "wrong_password"
