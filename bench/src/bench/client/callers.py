"""What is said to a client in a process of its own."""

import json

from bench.contestant import Running
from bench.rounds import Turn


async def ask(caller: Running, line: str) -> str:
    """Send a caller one line and return its answer."""
    child = caller.child
    assert child.stdin is not None and child.stdout is not None  # noqa: S101  # both are pipes
    child.stdin.write(f"{line}\n".encode())
    await child.stdin.drain()
    answer = await child.stdout.readline()
    if not answer:
        raise RuntimeError("a caller has ended; its log says why")
    return answer.decode()


async def turn_of(caller: Running, seconds: float) -> Turn:
    """Let a caller call for so long."""
    return Turn(**json.loads(await ask(caller, str(seconds))))
