"""`python -m pir` is `pir`."""

import os
import signal
import sys


def main() -> int:
    """Runs the command line; until that takes over, a signal ends the process without a word."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os._exit(128 + number))
    from pir import cli

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
