"""Runs that two processes train together, forked from one that has imported everything.

`python -m tests.together FOLDER` trains every one of `CASES` into a folder of its name.
"""

import os
import socket
import sys
import traceback
from pathlib import Path

import torch

from pir.runs.folder import RunFolder
from pir.system import processes
from pir.training.build import build_trainer
from tests.conftest import compose_config

EXACT = ["model.dtype=float32", "model.improvement_steps=3", "trainer.max_optimizer_steps=8"]
HALTING = ["trainer.lanes=halting", "model.halt_head=true"]
AGAIN = ["trainer.replay_share=0.3", "trainer.replay_size=20"]
LATE = ["trainer.late_share=0.3", "trainer.late_steps=4"]

CASES: dict[str, list[str]] = {
    "set_likelihood": [],
    "awr": ["objective=awr"],
    "ppo": ["objective=ppo"],
    "groups": ["objective=group_relative", "objective.terms.reward.samples=4"],
    "halting": [*HALTING, *AGAIN, *LATE],
    "ledger": ["trainer.lanes=ledger", "objective=dis", "trainer.micro_batches=2"],
    "half": ["trainer.max_optimizer_steps=5"],
}
"""Words after `pir train`, beside `EXACT` and `TINY`."""


def child(rank: int, port: int, folder: Path) -> int:
    """Is one of two processes that train all cases; returns its exit status."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", **address}
    try:
        with processes.joined():
            for name, words in CASES.items():
                config, run = compose_config(*EXACT, *words), RunFolder(folder / name)
                if rank == 0:
                    run.create(config, ["pir", "train"])
                build_trainer(config, run).train()
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main(folder: Path) -> int:
    """Trains all cases by two processes."""
    torch.set_num_threads(1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in (0, 1):
        process = os.fork()
        if process == 0:
            os._exit(child(rank, port, folder))
        children.append(process)
    return max(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in children)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
