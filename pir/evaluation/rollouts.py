"""Rollouts on held-out puzzles: the ledger of every improvement step, and its observers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.checks import check_choice, check_count, check_steps
from pir.errors import UserError
from pir.ledger.ledger import Ledger
from pir.noise import by_puzzle
from pir.puzzle import SPLITS, Puzzle
from pir.reasoner import Reasoner, in_use, refuse_infinite
from pir.rollout import Rollout, begin, improve
from pir.system import work
from pir.system.device import choose_device, time_on
from pir.system.memory import require_memory

EVALUATION_SEED = 0

BYTES_OF_A_STEP = 80
"""What the statistics of one puzzle's step take, at least."""


def refuse_empty(puzzle: Puzzle, split: str) -> None:
    """Refuses a split that holds no puzzle.

    Raises:
        UserError: naming the split.
    """
    if puzzle.size(split) == 0:
        raise UserError(f"the puzzles given leave none for the {split} split")


def held_out(
    puzzle: Puzzle, split: str, count: int, device: torch.device | str = "cpu"
) -> TensorDict:
    """Returns the first `count` puzzles of a split (all, if it has fewer), the same for every run.

    Raises:
        UserError: if there is no such split, or it is empty, or none of it is asked for, or the
            device is not there.
    """
    if isinstance(device, str):
        device = choose_device(device)
    check_choice("split", split, SPLITS)
    if count < 1:
        raise UserError(f"{count} puzzles of the {split} split: must be at least 1")
    refuse_empty(puzzle, split)
    size = puzzle.size(split)
    wanted = count if size is None else min(count, size)
    row = 2 * puzzle.length + BYTES_OF_A_STEP
    require_memory(wanted * row, f"{wanted:,} puzzles of the {split} split")
    return puzzle.sample(wanted, split, seed=EVALUATION_SEED).to(device)


class Observer(Protocol):
    """Something that looks at every step of an evaluation, without changing its course."""

    def see(self, step: Rollout, first: int) -> None:
        """Looks at a step of the puzzles from number `first` on, all at the same k."""


@dataclass
class Evaluation:
    """What an evaluation of N puzzles over K steps measured.

    Attributes:
        ledger: sums over all puzzles, outcomes by the answer after the trained depth.
        values: float32 of shape (N, K) for every statistic that has a value per puzzle.
        answers: uint8 of shape (N, L), after the last step.
        seconds: spent in the steps themselves, without ledger and observers.
    """

    ledger: Ledger
    values: dict[str, Tensor]
    answers: Tensor
    seconds: float

    @property
    def solved(self) -> Tensor:
        """Whether the answer after each step is right, bool (N, K)."""
        return self.values["solved"] > 0.5


def evaluate(
    reasoner: Reasoner,
    puzzle: Puzzle,
    puzzles: TensorDict,
    num_steps: int,
    batch_size: int = 1000,
    observers: Sequence[Observer] = (),
    step_size: float = 1.0,
    damping_after: int = 0,
    step_noise: float = 0.0,
    start: Callable[[Tensor], TensorDict] | None = None,
    seed: int = EVALUATION_SEED,
) -> Evaluation:
    """Improves the answers to some puzzles `num_steps` times and records every step.

    It seeds torch's random numbers and puts them back at its end. They are the same for all threads
    of a process, so only one of these may evaluate, solve or train at a time.

    Args:
        reasoner: the network, on the device of `puzzles`; in evaluation mode meanwhile.
        puzzle: judges the answers.
        puzzles: `question` and, if known, `solution` of N puzzles.
        num_steps: improvement steps K, as many as you like.
        batch_size: puzzles improved at once, at least 1; changes speed and memory only.
        observers: see every step.
        step_size: share of every change of the state that is made, see `improve`.
        damping_after: the first steps that are made whole all the same.
        step_noise: on the state after every step, see `improve`.
        start: gives the state before the first step; the reasoner's own by default.
        seed: of the random numbers that reasoners draw, and of noise (`pir.noise`).

    Raises:
        UserError: if the number of steps or `batch_size` is out of range, or there is no puzzle,
            or the reasoner's logits hold minus infinity.
    """
    check_steps("num_steps", num_steps)
    check_count("batch_size", batch_size)
    if puzzles.ndim != 1 or not len(puzzles):
        shape = tuple(puzzles.batch_size)
        raise UserError(f"puzzles has the shape {shape}: a batch of at least one is expected")
    device = puzzles["question"].device
    batch_size = min(batch_size, len(puzzles))
    needed = len(puzzles) * num_steps * BYTES_OF_A_STEP
    require_memory(needed, f"{num_steps:,} steps of {len(puzzles):,} puzzles")
    ledger = Ledger(batch_size, num_steps, reasoner.passes_per_step, device)
    trained = min(reasoner.improvement_steps, num_steps)
    values: list[dict[str, Tensor]] = []
    answers: list[Tensor] = []
    seconds = 0.0
    with by_puzzle(seed, device), in_use(reasoner), torch.inference_mode():
        for first in range(0, len(puzzles), batch_size):
            batch = puzzles[first : first + batch_size]
            state = None if start is None else start(batch["question"])
            lanes = begin(reasoner, puzzle, batch, state)
            if first == 0:
                refuse_infinite(lanes.now.logits)
            for k in range(1, num_steps + 1):
                started = time_on(device)
                share = step_size if k > damping_after else 1.0
                lanes, step = improve(
                    reasoner, puzzle, lanes, step_size=share, step_noise=step_noise
                )
                seconds += time_on(device) - started
                if k <= trained:
                    outcome = step.after.solved
                ends = torch.ones_like(step.after.solved) if k == num_steps else None
                ledger.record(step, ends, outcome)
                for observer in observers:
                    observer.see(step, first)
                work.done((first + len(batch) * k / num_steps) / len(puzzles))
            values.append({name: v.cpu() for name, v in ledger.values(len(batch)).items()})
            answers.append(lanes.now.answer.cpu())
    # joined outside of inference mode: what is returned may be trained on
    joined = {name: torch.cat([part[name] for part in values]) for name in values[0]}
    return Evaluation(ledger, joined, torch.cat(answers), seconds)
