"""Whether this process is one of several that torchrun started; known without importing torch."""

import os


def launched() -> bool:
    """Says whether torchrun, or what does as it does, has started this process."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys()


def by_torchrun() -> bool:
    """Says whether it was torchrun, which passes signals on and may start all processes again."""
    return launched() and "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    """Says whether this is the first of several processes, or the only one."""
    return not launched() or os.environ["RANK"] == "0"


def label() -> str:
    """Returns what tells this process from the first one, for messages; nothing in that one."""
    return "" if is_first() else f" (process {os.environ['RANK']})"
