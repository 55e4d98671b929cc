"""Command lines in processes of their own, forked from one that has imported everything.

`python -m tests.forks` reads command lines as JSON, starts all of them at once, and prints the exit
status and the messages of each as JSON.
"""

import json
import os
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


def forked(words: list[str], log: Path) -> int:
    """Starts a command line in a process of its own, which writes to `log`; returns its id."""
    child = os.fork()
    if child == 0:
        _be_the_command(words, log)
    return child


def _be_the_command(words: list[str], log: Path) -> NoReturn:
    from pir.cli.main import main

    status = 99
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        status = main(words)
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
