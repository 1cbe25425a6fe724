"""`python -m translimit` is the command line."""

import sys

from translimit.cli import main

if __name__ == "__main__":
    sys.exit(main())
