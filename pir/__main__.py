"""`python -m pir` is `pir`."""

import os
import signal
import sys
from contextlib import suppress


def main() -> int:
    """Runs the command line; until that takes over, a signal ends the process without a word."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os._exit(128 + number))
    from pir.cli.main import main as answer
    from pir.system import interrupt

    status = answer()
    if interrupt.requested():
        # `python -m` would end by the signal itself if it fell into source text that was executed
        # (dataclasses do so), even though it was handled: the interpreter remembers it.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
