"""auth on a machine whose clock is wrong by CLOCK_OFF seconds: `python -m wrong_clock`."""

import os
import time


def serve(off: float) -> None:
    right = time.time
    # What takes a clock takes this one. gRPC, which asks for the time when it needs it, must not: it compares Python's
    # with that of its core, which cannot be made wrong.
    time.time = lambda: right() + off
    from auth.main import build
    from auth.settings import AuthServiceSettings
    from grpc_common.run import run

    time.time = right
    run(build, AuthServiceSettings)


if __name__ == "__main__":
    serve(float(os.environ.pop("CLOCK_OFF")))
