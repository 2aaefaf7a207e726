"""``python -m taskloom``: the command ``taskloom``."""

import sys

from taskloom_command import main

if __name__ == "__main__":
    sys.exit(main())
