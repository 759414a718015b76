"""How long a call may take."""

from time import monotonic
from typing import Any

from grpc_common.call import Call, Method, Run
from grpc_common.chain import Interceptor
from grpc_common.lease import Term
from grpc_common.policy import LONGEST


class DeadlineInterceptor(Interceptor):
    """A call ends when its caller's deadline or its policy's timeout is over, whichever comes first.

    What is left is in `call.deadline` (seconds of `time.monotonic`), from where `grpc_common.deadline.remaining` gives
    it to whatever the handler waits for. A call whose time is over before it begins does not reach the handler.
    """

    def wrap(self, method: Method, call_next: Run) -> Run:
        """Hold calls of `method` to the timeout of its policy; without one, to the caller's deadline alone."""
        cap = method.policy.timeout if method.policy is not None else None
        term = Term(cap, TimeoutError) if cap is not None else None

        async def run(call: Call, request: Any) -> Any:
            asked = call.core.time_remaining()
            if asked is not None and (cap is None or asked <= cap):
                call.deadline = monotonic() + min(asked, LONGEST)
                if asked <= 0:
                    raise TimeoutError("the deadline was over before the call began")
                return await call_next(call, request)  # core watches over the caller's own deadline
            if term is None:
                return await call_next(call, request)
            call.deadline = monotonic() + term.seconds
            with term.lease(call):
                return await call_next(call, request)

        return run
