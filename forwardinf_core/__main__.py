"""``python -m forwardinf_core COMMAND``."""

import sys

from forwardinf_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
