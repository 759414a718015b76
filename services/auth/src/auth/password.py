"""Passwords as they are kept: argon2id (RFC 9106), worked out off the event loop and a few at a time."""

import asyncio
import secrets
import unicodedata
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import argon2
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from argon2.low_level import ARGON2_VERSION
from pydantic import SecretStr

from grpc_common.errors import DatabaseError, RateLimitError

RETRY_AFTER: Final = 1.0
HASH_BYTES: Final = 32
SALT_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Cost:
    """What one hash costs: passes over the memory, its size in KiB, and lanes (RFC 9106 §3.1).

    The defaults are the least that the OWASP Password Storage Cheat Sheet asks for.
    """

    passes: int = 2
    memory: int = 19 * 1024
    lanes: int = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password was right, and whether its hash was made at another cost than today's."""

    right: bool
    outdated: bool = False


class PasswordHasher:
    """Hashes and verifies passwords in `at_once` threads of its own; `async with` ends them.

    Each thread at work holds `cost.memory` KiB. `waiting` more calls may wait for a thread; what comes on top is
    refused, so that a storm of logins takes a bounded time and memory, and nothing of the event loop.
    """

    def __init__(self, cost: Cost, *, at_once: int = 2, waiting: int = 64) -> None:
        if at_once < 1 or waiting < 0:
            raise ValueError("hashing needs at least one thread, and the calls that may wait cannot be fewer than 0")
        self._argon2 = argon2.PasswordHasher(
            time_cost=cost.passes,
            memory_cost=cost.memory,
            parallelism=cost.lanes,
            hash_len=HASH_BYTES,
            salt_len=SALT_BYTES,
        )
        self._nobodys = _nobodys_hash(cost)
        self._room = at_once + waiting
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="argon2")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: SecretStr) -> SecretStr:
        """Return what to keep of `password`; raise RateLimitError when too many calls wait already."""
        return await self._in_thread(lambda: SecretStr(self._argon2.hash(_octets(password))))

    async def verify(self, password: SecretStr, kept: SecretStr | None) -> Verdict:
        """Say whether `kept` is the hash of `password`.

        With None, for a user who is not there, it takes as long to say no as with a hash of today's cost. A hash made
        at another cost takes another time until it is replaced: do that whenever one is `outdated`, and when it is
        decided that the user gets in, so that the time until then says nothing.

        Raises:
            RateLimitError: too many calls wait already.
            DatabaseError: `kept` is no hash of argon2id.
        """
        return await self._in_thread(lambda: self._verify(password, self._nobodys if kept is None else kept))

    def _verify(self, password: SecretStr, kept: SecretStr) -> Verdict:
        octets, text = _octets(password), kept.get_secret_value()
        try:
            if not text.startswith("$argon2id$"):
                raise InvalidHashError
            self._argon2.verify(text, octets)
        except VerifyMismatchError:
            return Verdict(right=False)
        except (InvalidHashError, VerificationError):
            raise DatabaseError("what is kept of the password is no hash of argon2id: set the password anew") from None
        return Verdict(right=True, outdated=self._argon2.check_needs_rehash(text))

    async def _in_thread[T](self, work: Callable[[], T]) -> T:
        if self._room <= 0:
            raise RateLimitError("too many passwords are being checked at once", retry_after=RETRY_AFTER)
        self._room -= 1
        future = self._threads.submit(work)
        loop = asyncio.get_running_loop()
        # A thread at work goes on when its call is cancelled: the room is taken until the work is done or given up.
        future.add_done_callback(lambda _: _call_soon(loop, self._give_room))
        return await asyncio.wrap_future(future)

    def _give_room(self) -> None:
        self._room += 1


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback)


def _octets(password: SecretStr) -> bytes:
    """The same bytes for what a person takes for the same password (NIST SP 800-63B §3.1.1.2)."""
    return unicodedata.normalize("NFKC", password.get_secret_value()).encode("utf-8", "surrogatepass")


def _nobodys_hash(cost: Cost) -> SecretStr:
    """A hash that costs as much to compare with as a new one, and of no password that anybody knows."""
    salt, digest = (b64encode(secrets.token_bytes(size)).rstrip(b"=").decode() for size in (SALT_BYTES, HASH_BYTES))
    return SecretStr(f"$argon2id$v={ARGON2_VERSION}$m={cost.memory},t={cost.passes},p={cost.lanes}${salt}${digest}")
