"""Training by several processes side by side.

N processes (`torchrun`) hold B / N lanes each, by index. Each keeps weights, optimizer, random
states and progress as a single process would, for gradients and losses are means over all of them
and random numbers are drawn for the whole batch (`pir.noise.drawn`). Only lanes and the ledger's
sums are different; a checkpoint holds those of all processes, as if one had made it.
"""

from typing import TYPE_CHECKING, Any, cast

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from pir.errors import UserError
from pir.noise import Share
from pir.objective import Objective
from pir.runs.checkpoint_content import with_tensors
from pir.settings.training import TrainerSettings
from pir.system import processes

if TYPE_CHECKING:
    from pir.training.trainer import Trainer


def own_share(settings: TrainerSettings, objective: Objective) -> Share:
    """Returns which of the lanes are those of this process.

    Raises:
        UserError: if the lanes cannot be shared out evenly, or the objective forbids their parts.
    """
    whole, many, parts = settings.batch_size, processes.size(), settings.micro_batches
    count, rest = divmod(whole, many)
    if rest:
        raise UserError(
            f"trainer.batch_size={whole}: {many} processes hold equal shares of the lanes, so a "
            f"multiple of {many} is allowed; or start another number of processes"
        )
    if count % parts:
        raise UserError(
            f"trainer.micro_batches={parts}: must divide the {count} lanes of a process"
        )
    if (count // parts) % objective.lanes_per_puzzle:
        raise UserError(
            f"trainer.batch_size={whole}: the objective puts {objective.lanes_per_puzzle} lanes on "
            f"every puzzle, which must divide the {count // parts} lanes of a process and part"
        )
    for name, term in objective.used_terms().items():
        if parts > 1 and term.whole_batch:
            raise UserError(
                f"trainer.micro_batches={parts}: objective.terms.{name} compares all lanes with "
                "one another, so its gradient is no sum over parts; 1 is allowed"
            )
    return Share(processes.rank() * count, count, whole, whole)


def measured_here(share: Share, measured: int) -> int:
    """Returns how many of this process's lanes are among the first `measured` of the batch."""
    return min(share.count, max(0, measured - share.first))


def part_of(puzzles: TensorDict, split: str) -> TensorDict:
    """Returns this process's part of held-out puzzles, of which every process has the same.

    Raises:
        UserError: if there are fewer than processes.
    """
    if len(puzzles) < processes.size():
        raise UserError(
            f"{len(puzzles)} puzzles of the {split} split (trainer.{split}_puzzles): "
            f"{processes.size()} processes share them, so at least as many are needed"
        )
    bounds = [len(puzzles) * place // processes.size() for place in range(processes.size() + 1)]
    return puzzles[bounds[processes.rank()] : bounds[processes.rank() + 1]]


def everywhere(puzzles: TensorDict, chosen: Tensor) -> tuple[TensorDict, Tensor]:
    """Returns questions and solutions of the lanes of all processes, and which are chosen."""
    if processes.size() == 1:
        return puzzles, chosen
    rows = {name: processes.gathered(puzzles[name]) for name in ("question", "solution")}
    chosen = processes.gathered(chosen)
    return TensorDict(rows, batch_size=chosen.shape), chosen


def recompute(reasoner: nn.Module) -> None:
    """Has the networks of a reasoner keep less for the backward pass (`Network.recompute`).

    Raises:
        UserError: if none of its parts can.
    """
    parts = [module for module in reasoner.modules() if hasattr(module, "recompute")]
    if not parts:
        raise UserError("trainer.checkpoint_activations=true: this model has no part that can")
    for part in parts:
        part.recompute = cast(Any, True)


def average(module: nn.Module, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Makes gradients the means over all processes, and returns the means of the losses."""
    if processes.size() == 1:
        return losses
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    both = [*gradients, *losses.values()]
    means = processes.mean(torch.cat([part.float().flatten() for part in both]))
    parts = torch.split(means, [part.numel() for part in both])
    for gradient, part in zip(gradients, parts, strict=False):
        gradient.copy_(part.view_as(gradient))
    values = [part.view(()) for part in parts[len(gradients) :]]
    return dict(zip(losses, values, strict=True))


# ---------------------------------------------------------------- checkpoints


def gathered(trainer: "Trainer", state: dict[str, Any]) -> dict[str, Any]:
    """Returns a state (`TrainState.state_dict`) with the lanes and sums of all processes."""
    if processes.size() == 1:
        return state
    ledger, share = state["ledger"], trainer.share
    own, here = ledger["under_way"], len(ledger["under_way"])
    under_way = own.new_zeros(trainer.measured, *own.shape[1:])
    under_way[share.first : share.first + here] = own
    sums = {"under_way": under_way, "counts": ledger["counts"], "sums": ledger["sums"]}
    return state | {
        "lanes": with_tensors(state["lanes"], processes.gathered),
        "ledger": ledger | {name: processes.total(part) for name, part in sums.items()},
    }


def shared_out(trainer: "Trainer", state: dict[str, Any]) -> dict[str, Any]:
    """Returns a state with the lanes and sums of this process; sums so far go to rank 0."""
    if processes.size() == 1:
        return state
    share, ledger = trainer.share, state["ledger"]
    here = measured_here(share, trainer.measured)
    factor = 1 if processes.rank() == 0 else 0
    return state | {
        "lanes": with_tensors(state["lanes"], lambda rows: rows[share.first :][: share.count]),
        "ledger": ledger
        | {"under_way": ledger["under_way"][share.first :][:here]}
        | {name: ledger[name] * factor for name in ("counts", "sums")},
    }
