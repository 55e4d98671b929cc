"""Command lines in processes of their own, forked from one that has imported everything.

`python -m tests.forks` reads command lines as JSON, starts all of them at once, and prints the exit
status and the messages of each as JSON.
"""

import json
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NoReturn


def import_everything() -> None:
    """Imports what training imports, so that a forked process begins at once."""
    import hydra  # noqa: F401
    import pir.analysis.figures.kinds
    import pir.envs.countdown.rules
    import torchrl.data  # noqa: F401

    import pir.cli.commands.eval
    import pir.cli.commands.train
    import pir.evaluation.run
    import pir.runs.sweep
    import pir.training.trainer  # noqa: F401


SIGNALS = (signal.SIGINT, signal.SIGTERM)


def forked(words: list[str], log: Path) -> int:
    """Starts a command line in a process of its own, which writes to `log`; returns its id.

    A signal that comes before the command takes over ends the process without a word, as it ends an
    interpreter that starts: a child that has just been forked has its parent's handlers, and would
    go on in its parent's code.
    """
    log.write_text("")
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    child = os.fork()
    if child == 0:
        _be_the_command(words, log)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return child


def _be_the_command(words: list[str], log: Path) -> NoReturn:
    from pir.__main__ import main

    status = 99
    try:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        file = os.open(log, os.O_WRONLY | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.argv = ["pir", *words]
        status = main()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    import_everything()
    with tempfile.TemporaryDirectory() as folder:
        commands = json.load(sys.stdin)
        logs = [Path(folder) / str(number) for number in range(len(commands))]
        children = [forked(words, log) for words, log in zip(commands, logs, strict=True)]
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        json.dump([[s, log.read_text()] for s, log in zip(statuses, logs, strict=True)], sys.stdout)
