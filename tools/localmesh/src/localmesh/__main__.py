"""`python -m localmesh` is what `./mesh` runs."""

import os
import signal
import sys

if __name__ == "__main__":
    # Until there is something to clean up, Ctrl-C ends us without a word; the imports take a while.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for handle in range(3):
        try:
            os.fstat(handle)
        except OSError:  # closed by who called us: what we open next would be taken for it
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - as long as we live
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115

    from localmesh import environment

    before = environment.leave_rest()  # before any library has looked
    from localmesh.cli import main

    sys.exit(main(environ=before))
