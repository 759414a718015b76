"""Time, as the client side sees it: real, or whatever a test says it is."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Clock:
    """`now` is in seconds of any origin and never goes back; `sleep` waits for that many seconds of it."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


CLOCK: Final = Clock()
"""The real one."""
