"""`python -m translimit` is the command line."""

import os
import sys


def _leave_current_folder() -> None:
    """Take back the current folder, which `python -m` puts first on the path.

    As with `translimit`, a module of that folder is found only where the command names it.
    """
    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    here = os.path.realpath(os.curdir)
    if not sys.flags.safe_path and os.path.realpath(sys.path[0] or os.curdir) == here != home:
        del sys.path[0]


if __name__ == "__main__":
    _leave_current_folder()
    from translimit.cli import main

    sys.exit(main())
