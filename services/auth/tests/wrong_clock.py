"""auth on a machine whose clock is wrong by CLOCK_OFF seconds: `python -m wrong_clock`."""

import os
import time
from typing import Final

OFF: Final = float(os.environ.pop("CLOCK_OFF"))
right = time.time

# What takes a clock takes this one. gRPC, which asks for the time when it needs it, must not: it compares Python's with
# that of its core, which cannot be made wrong.
time.time = lambda: right() + OFF
from auth.main import build  # noqa: E402
from auth.settings import AuthServiceSettings  # noqa: E402
from grpc_common.run import run  # noqa: E402

time.time = right

if __name__ == "__main__":
    run(build, AuthServiceSettings)
