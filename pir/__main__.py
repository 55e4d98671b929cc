"""`python -m pir` is `pir`."""

import os
import signal
import sys
from contextlib import suppress


def main() -> int:
    """Runs the command line; until that takes over, a signal ends the process without a word."""
    if "OMP_WAIT_POLICY" not in os.environ:
        # Threads wait for one another at every operation. By default they spin for milliseconds,
        # and where another program wants the cores too, they so take the time of those that they
        # wait for. OpenMP reads this when torch is imported.
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
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
