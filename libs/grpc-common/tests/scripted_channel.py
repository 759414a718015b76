"""A channel that answers as a script says, in the time it says; held to what grpc.aio does by test_client_script.py."""

import asyncio
from typing import NamedTuple

import grpc
from grpc import StatusCode, aio


class Answer(NamedTuple):
    """What one attempt gets, and after how many seconds."""

    status: StatusCode = StatusCode.OK
    seconds: float = 0.0
    trailers: tuple[tuple[str, str | bytes], ...] = ()


class Attempt(NamedTuple):
    """What one attempt came with."""

    at: float
    timeout: float
    metadata: tuple[tuple[str, str | bytes], ...]


class ScriptedCall:
    """One attempt under way."""

    def __init__(self, answer, timeout):
        self._task = asyncio.create_task(self._run(answer, timeout))
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _run(self, answer, seconds):
        if answer.seconds >= seconds:
            await asyncio.sleep(max(0, seconds))
            raise aio.AioRpcError(StatusCode.DEADLINE_EXCEEDED, aio.Metadata(), aio.Metadata(), "Deadline Exceeded")
        await asyncio.sleep(answer.seconds)
        if answer.status is not StatusCode.OK:
            raise aio.AioRpcError(answer.status, aio.Metadata(), aio.Metadata(*answer.trailers), "scripted")
        return b"\x0a\x05reply"

    def __await__(self):
        return self._task.__await__()

    def cancel(self):
        return self._task.cancel()

    def done(self):
        return self._task.done()


class ScriptedChannel:
    """Gives its attempts one answer each, the last one for ever."""

    def __init__(self, *answers):
        self._answers = answers
        self.attempts = []
        self.calls = []
        self.state = grpc.ChannelConnectivity.READY

    def unary_unary(self, path):
        def begin(request, *, timeout, metadata, credentials, wait_for_ready, compression):
            answer = self._answers[min(len(self.attempts), len(self._answers) - 1)]
            self.attempts.append(Attempt(asyncio.get_running_loop().time(), timeout, metadata))
            self.calls.append(ScriptedCall(answer, timeout))
            return self.calls[-1]

        return begin

    def get_state(self, try_to_connect=False):
        return self.state

    async def close(self, grace=None):
        for call in self.calls:
            call.cancel()
