"""Whether a name and a password are those of a user who may log in."""

from pydantic import SecretStr

from auth.audit import Kind
from auth.caller import Caller
from auth.guard import Attempt, LoginGuard
from auth.password import PasswordHasher
from auth.recorder import Recorder
from auth.repository import Users
from auth.turns import Turns
from auth.user import User, account_of
from grpc_common.errors import AppException, UnauthorizedError


class LoginRefusedError(UnauthorizedError):
    """Name and password are not those of a user who may log in now; which of it is for the log and not for the
    caller.
    """

    code = "LOGIN_REFUSED"

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

    async def prove(self, username: str, password: SecretStr, caller: Caller) -> User:
        """Return the user.

        Raises:
            LoginRefusedError: it is none.
            RateLimitError: the address tries too often, or too many passwords are being checked at once, of the account
                or of all.
            ExternalServiceError: the database cannot be reached.
        """
        attempt = Attempt(account_of(username), caller.address)
        open_ = await self._guard.enter(attempt)
        try:
            async with self._turns.turn():  # so that who waits for a thread holds nothing of the database
                user = await self._users.find(attempt.account)
                verdict = await self._hasher.verify(password, user.password_hash if user is not None else None)
        except AppException:
            if open_:
                await self._guard.undecided(attempt)
            raise
        if user is None or user.disabled or not open_ or not verdict.right:
            if open_:
                await self._guard.failed(attempt)
            known = user.id if user is not None else ""
            reason = _reason(user) if open_ else "locked"
            await self._recorder.record(Kind.LOGIN_FAILED, subject=known, reason=reason, address=caller.address)
            raise LoginRefusedError
        await self._guard.succeeded(attempt)
        if verdict.rehash is not None:
            await self._users.rehash(user.id, user.password_hash, verdict.rehash)
        return user


def _reason(user: User | None) -> str:
    if user is None:
        return "unknown_user"
    return "disabled" if user.disabled else "wrong_password"
