"""What the rounding of a run depends on, kept in its checkpoints."""

from typing import TYPE_CHECKING, Any

import torch

from pir.runs.checkpoint_content import describe
from pir.runs.folder import processor
from pir.system import processes
from pir.system.terminal import say

if TYPE_CHECKING:
    from pir.training.trainer import Trainer


def machine(trainer: "Trainer") -> dict[str, Any]:
    """Returns what rounding depends on."""
    device = trainer.device
    cuda = device.type == "cuda"
    return {
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if cuda else f"{device.type} {processor()}",
        "dtype": str(getattr(trainer.reasoner, "dtype", torch.float32)).removeprefix("torch."),
        "torch": str(torch.__version__),
        "processes": processes.size(),
        "compile": trainer.settings.compile,
        "micro_batches": trainer.settings.micro_batches,
    }


def say_other_machine(then: dict[str, Any], now: dict[str, Any]) -> None:
    """Says if rounding differs from now on."""
    then = {"processes": 1, "compile": "none", "micro_batches": 1} | then
    changed = [
        f"{k} {describe(then.get(k))} -> {describe(now[k])}" for k in now if then.get(k) != now[k]
    ]
    if changed:
        say(
            f"warning: {', '.join(changed)}: the weights will differ in rounding from those of a "
            "run that was never stopped",
            error=True,
        )
