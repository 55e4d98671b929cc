"""`python -m pir` is `pir`."""

import sys

from pir.cli import main

if __name__ == "__main__":
    sys.exit(main())
