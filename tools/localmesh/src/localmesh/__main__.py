"""`python -m localmesh` is what `./mesh` runs."""

import signal
import sys

if __name__ == "__main__":
    # Until there is something to clean up, Ctrl-C ends us without a word; the imports take a while.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from localmesh import environment

    before = environment.leave_rest()  # before any library has looked
    from localmesh.cli import main

    sys.exit(main(environ=before))
