"""How the chain finds out that core has refused a message: one that is too large, or that it cannot decompress.

To whoever reads, core then gives the end of the requests, as if the caller had finished; the caller it tells by itself.
Nothing but a line for debugging in grpc.aio's own log says that it was so, and in the task that reads.
"""

import logging
from typing import Any, Final

from grpc_common.call import current_call

LOGGER: Final = "grpc._cython.cygrpc"
LINE: Final = "Failed to receive any message from Core"


def watch() -> None:
    """Set `refused` of every call to which that happens from now on."""
    log = logging.getLogger(LOGGER)
    if "debug" in vars(log):
        return
    debug = log.debug

    def heed(line: str, *facts: Any, **how: Any) -> None:
        if line.startswith(LINE) and (call := current_call.get()) is not None:
            call.refused = True
        debug(line, *facts, **how)

    # A filter would see the line only with the logger set to DEBUG, which costs each call a record that nobody reads.
    log.debug = heed  # type: ignore[method-assign,assignment]
