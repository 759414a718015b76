"""The public keys of an issuer, fetched over HTTP."""

import asyncio
import ipaddress
import re
import time
from collections.abc import Callable, Coroutine
from contextvars import Context
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

import httpx
import structlog

from grpc_common.errors import ExternalServiceError
from grpc_common.jwk_set import KeySet, VerifyingKey
from grpc_common.shown_url import shown_url

MAX_DOCUMENT: Final = 256 * 1024
FIRST_BACKOFF: Final = 1.0
FIRST_EARLY_PAUSE, LONGEST_EARLY_PAUSE = 0.1, 1.0
PATIENCE: Final = 0.5
"""Seconds that one who knows keys whose time is over waits for newer ones."""
REFRESH_AHEAD: Final = 0.8
_MAX_AGE: Final = re.compile(r'(?:^|[\s,])max-age="?(\d{1,10})"?(?=[\s,;]|$)', re.IGNORECASE)
_NOT_KEPT: Final = re.compile(r"\bno-(?:store|cache)\b", re.IGNORECASE)


class JWKSError(Exception):
    """An answer of the issuer that is not a JWKS document."""


class JWKSClient:
    """Keeps an issuer's keys at hand, so that verifying a token almost never waits and the issuer is hardly asked.

    One fetch at a time, whoever asks. The keys are fetched again in the background when most of their time is over
    (`Cache-Control: max-age`, held between `min_ttl` and `max_ttl`; `default_ttl` without one), and are used for
    `stale` seconds longer when the issuer cannot be reached. A token with an unknown kid causes a fetch, but not more
    than one in `cool_down` seconds, whatever number of tokens. A bad signature under a known kid causes none: an issuer
    that puts another key under the name of the one before, by which nobody can see that it is new (OpenID Connect Core
    §10.1.1), is believed again once the time of its keys is over. A bad document never replaces a good one.
    With `uds` all goes through that Unix socket, such as the one by which a sidecar takes calls of its service; the URL
    then says what is asked for there. All durations are seconds; `clock` is monotonic.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 5.0,
        default_ttl: float = 300.0,
        min_ttl: float = 30.0,
        max_ttl: float = 3600.0,
        stale: float = 24 * 3600.0,
        cool_down: float = 10.0,
        plaintext: Literal["behind-mesh"] | None = None,
        uds: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = _checked(url, plaintext, uds)
        self._shown = shown_url(url)
        self._timeout = timeout
        self._default_ttl, self._min_ttl, self._max_ttl = default_ttl, min_ttl, max_ttl
        self._stale = stale
        self._cool_down = cool_down
        self._clock = clock
        # What is in the environment for other programs (proxies, .netrc) does not choose whom we trust.
        socket = None if uds is None else httpx.AsyncHTTPTransport(uds=str(uds), trust_env=False)
        self._http = httpx.AsyncClient(follow_redirects=False, trust_env=False, timeout=timeout, transport=socket)
        self._keys: KeySet | None = None
        self._refresh_at = self._expires_at = self._unusable_at = 0.0
        self._failures = 0
        self._retry_at = self._unknown_at = self._started_at = float("-inf")
        self._flight: asyncio.Task[None] | None = None
        self._log = structlog.get_logger(component="jwks")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop fetching and close the connections."""
        if (flight := self._flight) is not None:
            flight.cancel()
            await asyncio.wait([flight])
        await self._http.aclose()

    async def fetch_early(self) -> None:
        """Fetch the keys before the first token comes; return once they are there, however often it takes.

        So an issuer that is gone when that token comes, minutes later, does no harm. One that starts with us may be
        later than we are: a token that comes meanwhile has it asked at once.
        """
        pause = FIRST_EARLY_PAUSE
        while self._keys is None:
            flight = self._flight = self._flight or self._take_off(self._fetch(early=True))
            await asyncio.wait([flight])
            if self._keys is None:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_EARLY_PAUSE)

    async def usable(self) -> bool:
        """Say whether there are keys to verify tokens with, for a check of health; waits for nobody.

        The check keeps them new where no token does: those of a service that is not called must not grow old, or
        nobody would ever call it again, nor must a key that was withdrawn count where all tokens are known already.
        """
        if self._keys is not None and self._clock() >= self._refresh_at:
            self._start()
        return self._keys is not None and self._clock() < self._unusable_at

    async def find(self, kid: str, algorithm: str) -> VerifyingKey | None:
        """Return the key of that name for that algorithm, asking the issuer for news when that makes sense."""
        before = self._keys
        keys = await self._current()
        key = keys.find(kid, algorithm)
        # Keys that came while we waited are news enough.
        if key is None and kid not in keys.kids and keys is before and self._may_ask_for_unknown():
            await self._refresh()
            key = (self._keys or keys).find(kid, algorithm)
        return key

    async def _current(self) -> KeySet:
        now = self._clock()
        if self._keys is None or now >= self._unusable_at:
            await self._refresh()
            if self._keys is None or self._clock() >= self._unusable_at:
                raise ExternalServiceError("the keys that tokens are verified with are not available")
        elif now >= self._expires_at and not self._failures:
            await self._refresh(PATIENCE)  # an issuer that hangs must not hold up those whose keys are known
        elif now >= self._refresh_at:
            self._start()  # nobody waits: what we have is still good, or all we can get
        return self._keys

    def _may_ask_for_unknown(self) -> bool:
        if self._flight is not None:
            return True  # wait for what comes
        now = self._clock()
        if now < self._unknown_at:
            return False
        self._unknown_at = now + self._cool_down
        return True

    async def _refresh(self, patience: float | None = None) -> None:
        if (flight := self._start()) is None:
            return
        if patience is not None:
            patience = max(0.0, self._started_at + patience - self._clock())
        await asyncio.wait([flight], timeout=patience)  # a caller that gives up must not take the fetch from the others

    def _start(self) -> asyncio.Task[None] | None:
        if self._flight is None and self._clock() >= self._retry_at:
            self._flight = self._take_off(self._fetch())
        return self._flight

    def _take_off(self, fetch: Coroutine[None, None, None]) -> asyncio.Task[None]:
        self._started_at = self._clock()
        # Not part of the call that happens to be first: neither its trace nor its deadline.
        return asyncio.get_running_loop().create_task(fetch, context=Context())

    async def _fetch(self, *, early: bool = False) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                keys, ttl = await self._download()
        except Exception as error:  # noqa: BLE001  # whatever goes wrong, what we have stays
            if early:
                self._log.info("keys not fetched yet", url=self._shown, problem=_described(error))
            else:
                self._failed(error)
        else:
            self._succeeded(keys, ttl)
        finally:
            self._flight = None

    async def _download(self) -> tuple[KeySet, float]:
        headers = {"accept": "application/jwk-set+json, application/json", "accept-encoding": "identity"}
        async with self._http.stream("GET", self._url, headers=headers) as response:
            if response.status_code != httpx.codes.OK:
                raise JWKSError(f"the answer has status {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise JWKSError("the answer is compressed, which was not asked for")
            document = bytearray()
            async for chunk in response.aiter_raw():
                document += chunk
                if len(document) > MAX_DOCUMENT:
                    raise JWKSError(f"the answer is longer than {MAX_DOCUMENT} bytes")
            return KeySet.parse(bytes(document)), self._ttl(response.headers.get("cache-control", ""))

    def _ttl(self, cache_control: str) -> float:
        if _NOT_KEPT.search(cache_control):
            return self._min_ttl
        if (found := _MAX_AGE.search(cache_control)) is None:
            return self._default_ttl
        return min(max(float(found[1]), self._min_ttl), self._max_ttl)

    def _succeeded(self, keys: KeySet, ttl: float) -> None:
        now = self._clock()
        before = self._keys
        keys.replace(before)
        self._keys = keys
        self._refresh_at = now + REFRESH_AHEAD * ttl
        self._expires_at = now + ttl
        self._unusable_at = now + ttl + self._stale
        self._retry_at = float("-inf")
        if before is None or before.by_name != keys.by_name or self._failures:
            self._log.info("keys fetched", url=self._shown, kids=sorted(keys.kids), failures_before=self._failures)
        self._failures = 0

    def _failed(self, error: Exception) -> None:
        now = self._clock()
        pause = min(FIRST_BACKOFF * 2.0 ** min(self._failures, 16), max(self._cool_down, FIRST_BACKOFF))
        self._failures += 1
        self._retry_at = now + pause
        self._log.error(
            "keys not fetched",
            url=self._shown,
            problem=_described(error),
            failures=self._failures,
            next_try_s=pause,
            usable_s=round(max(0.0, self._unusable_at - now)) if self._keys is not None else 0,
        )


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _checked(url: str, plaintext: Literal["behind-mesh"] | None, uds: Path | None) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise ValueError("the JWKS URL does not parse") from None
    if parsed.userinfo:
        raise ValueError("the JWKS URL must not hold a password: it is logged")
    if parsed.scheme not in ("https", "http") or not parsed.host:
        raise ValueError(f"the JWKS URL {url} must be like https://issuer.example/.well-known/jwks.json")
    unsafe = parsed.scheme == "http" and plaintext is None and uds is None
    if unsafe and not _is_loopback(parsed.host):
        raise ValueError(
            f"the JWKS URL {url} must use https, for over http anybody between could add a key; "
            'where a sidecar encrypts, say plaintext="behind-mesh"'
        )
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
