"""`python -m localmesh` is what `./mesh` runs."""

import sys

from localmesh.cli import main

if __name__ == "__main__":
    sys.exit(main())
