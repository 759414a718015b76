"""Ends all sessions and takes back all access tokens, after a restore: `python -m auth.end_sessions`."""

import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import Final

from pydantic import SecretStr

from auth.all_sessions import AllSessions
from auth.audit import Kind, SecurityEvent
from auth.migrate import MIGRATIONS
from auth.revoked import CLOCKS_DIFFER, issued_until
from auth.settings import AuthServiceSettings
from grpc_common.database.clock import open_clock
from grpc_common.database.engine import open_engine
from grpc_common.errors import AppException, DatabaseError, ExternalServiceError
from grpc_common.revocation_stream import RevocationStream
from grpc_common.revocations import IssuedUntil
from grpc_common.settings import SettingsError, load_settings

ENDED: Final = "All sessions are ended, and all access tokens that were issued before {now:%Y-%m-%d %H:%M:%SZ} refused"
TOLD: Final = f"{ENDED} by every service."
NOT_TOLD: Final = f"{ENDED} by every service as soon as auth runs and tells them ({{reason}})."


async def end_sessions(settings: AuthServiceSettings) -> str:
    """End all that were begun with the database of the settings, and tell the services; return what was done.

    Raises:
        DatabaseError: the database lacks migrations, or its clock is not ours.
        ExternalServiceError: it cannot be reached.
    """
    async with open_engine(settings.database_url.get_secret_value(), settings.database_limits, "auth") as engine:
        await MIGRATIONS.require_current(engine)
        async with open_clock(engine) as clock:
            apart = time.time() - clock()
        if abs(apart) > CLOCKS_DIFFER:
            raise DatabaseError(
                f"this machine's clock is {apart:+.0f} s off the database's: set it, and run this again"
            )
        now = datetime.now(UTC)
        event = SecurityEvent(kind=Kind.ALL_SESSIONS_ENDED, at=now, reason="command")
        await AllSessions(engine).end(event)
    try:
        await _tell(settings.revocations_url, IssuedUntil(issued_until(event)))
    except ExternalServiceError as error:
        return NOT_TOLD.format(now=now, reason=error.message)
    return TOLD.format(now=now)


async def _tell(url: SecretStr, taken_back: IssuedUntil) -> None:
    """The event in the outbox does that, too; but nobody need wait for the service to run."""
    if not url:
        raise ExternalServiceError("AUTH_REVOCATIONS_URL is not set")
    async with RevocationStream(url.get_secret_value()) as stream:
        await stream.tell(taken_back)


def main() -> None:
    """End all sessions, as a program: exits with 0 when it is done, with 1 when not, with 2 for bad settings."""
    try:
        print(asyncio.run(end_sessions(load_settings(AuthServiceSettings))))
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except AppException as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
