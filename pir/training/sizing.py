"""Sizes for a puzzle without a recipe: batch, length of the schedule, held-out puzzles, depth.

They follow from a count of operations, never from a clock, so that a command chooses the same sizes
at every start and the same seed gives the same rows. The steps that are timed only tell how long
the schedule will take (`told`).
"""

import math
from collections.abc import Collection, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pir.evaluation.cost import flops_per_step
from pir.objective import Objective
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner
from pir.settings.catalog import choices
from pir.settings.training import SIZED, TrainerSettings
from pir.system import processes
from pir.system.device import device_of, own_random_stream, time_on
from pir.training.filling import fill_lanes

if TYPE_CHECKING:
    from pir.training.trainer import Trainer

ELEMENTS_PER_SECOND, FLOPS_PER_ELEMENT = 3.3e9, 200
"""Elements of tensors that one processor core writes per second while it trains, and how many
floating-point operations of products take as long as writing one. Measured on one core with
AVX512-BF16: on the puzzles of this repository (6 to 900 tokens; attention over up to 81,
convolution, candidates) an update takes 0.98 to 1.19 times what these say, with attention over 324
tokens 2 times, over 900 1.1 times."""

WITH_GRADIENT = 3
"""What an update costs, in forward passes: the backward pass takes twice as long."""

GUARD_SHARE = 0.9
"""Of `max_minutes` that the steps may take on one such core. A second core leaves half of the time,
for validation, for new puzzles and for machines that are slower."""

CUT_SHORT = 1.2
"""A schedule that is more times as long as the run is told."""

TIMED = 3
"""Rounds of improvement steps, of which the fastest tells the time: the first fills all lanes, and
the first two may compile."""

FEWEST_STEPS, MOST_STEPS = 1000, 1500
BATCHES = tuple(1 << power for power in range(3, 10))
"""8 to 512 lanes."""

VALIDATIONS, TESTS = (100, 200, 500, 1000), (500, 1000, 2000, 4000)
HELD_OUT_SHARE = 0.15
"""Of the training's operations that validation may take, and the test as well."""

LONG = 100
"""Tokens from which a TRM gets more and longer steps of a smaller network, as mazes of 121 tokens
do by their recipe: their answers are found part by part."""

USUAL = {"hidden_size": 128, "improvement_steps": 3, "latent_steps": 2}
FOR_LONG = {"hidden_size": 64, "improvement_steps": 4, "latent_steps": 4}
"""What `model=trm` sets, and what takes its place."""


class _Written(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the elements of the tensors that operations make; views count nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.elements = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        read = {t.untyped_storage() for t in tree_leaves(args) if isinstance(t, Tensor)}
        made = (t for t in tree_leaves(result) if isinstance(t, Tensor))
        self.elements += sum(t.numel() for t in made if t.untyped_storage() not in read)
        return result


@torch.no_grad()
def seconds_per_step(reasoner: Reasoner, question: Tensor) -> float:
    """Estimates, without a clock, how long one core improves one more puzzle by one step.

    Args:
        reasoner: takes the step.
        question: uint8 of shape (1, L), any one.
    """
    elements: list[int] = []
    # fused attention is counted by the products that it is made of; on a CPU it is no faster
    with own_random_stream(question.device), sdpa_kernel(SDPBackend.MATH):
        for count in (1, 2):  # what the second puzzle adds: the weights are cast only once
            questions = question.repeat(count, 1)
            k = torch.ones(count, dtype=torch.int64, device=question.device)
            state, condition = reasoner.start(questions), reasoner.context(questions)
            with _Written() as written:
                reasoner.read_out(reasoner.improve(questions, state, k, condition))
            elements.append(written.elements)
        flops = flops_per_step(reasoner, question)
    return (elements[1] - elements[0] + flops / FLOPS_PER_ELEMENT) / ELEMENTS_PER_SECOND


def sizes(
    puzzle: Puzzle,
    reasoner: Reasoner,
    objective: Objective,
    max_minutes: float | None = TrainerSettings.max_minutes,
    **given: Any,
) -> dict[str, Any]:
    """Chooses the training settings that nobody gave.

    The batch is the largest power of two with which one core takes `FEWEST_STEPS` optimizer steps
    in `GUARD_SHARE` of the time, and the schedule is as long as the time allows.

    Args:
        puzzle: gives the length of questions.
        reasoner: says what a step costs.
        objective: says how many steps an update sees.
        max_minutes: the time that there is; None for the default.
        given: settings of `TrainerSettings` that are fixed, by name.

    Returns:
        every setting of `SIZED` by name: those given, and the others chosen.
    """
    device = device_of(reasoner)
    question = torch.zeros(1, puzzle.length, dtype=torch.uint8, device=device)
    seconds = WITH_GRADIENT * seconds_per_step(reasoner, question)
    num_steps = reasoner.improvement_steps
    seconds *= objective.steps_of_update(num_steps) * objective.epochs
    time = 60 * GUARD_SHARE * (max_minutes or TrainerSettings.max_minutes or 1.0)
    updates = time / seconds  # of single lanes
    group = objective.lanes_per_puzzle
    sizes = tuple(size for size in BATCHES if size % group == 0) or (group,)
    batch = given.get("batch_size") or _largest(sizes, updates / FEWEST_STEPS)
    steps = given.get("max_optimizer_steps") or given.get("decay_steps") or None
    if steps is None:
        steps = int(min(MOST_STEPS, max(100, updates / batch))) // 100 * 100
    lane_steps = HELD_OUT_SHARE * WITH_GRADIENT * batch / num_steps
    chosen = {
        "batch_size": batch,
        "warmup_steps": min(100, steps // 20),
        "decay_steps": steps,
        "max_optimizer_steps": steps,
        "val_puzzles": _largest(VALIDATIONS, lane_steps * TrainerSettings.eval_every),
        "test_puzzles": _largest(TESTS, lane_steps * steps / 2),  # the test takes 2 K steps
    }
    return chosen | {name: given[name] for name in SIZED if name in given}


def _largest(choices: tuple[int, ...], most: float) -> int:
    """Returns the largest of some rising numbers that is not above a bound, or else the first."""
    return max((number for number in choices if number <= most), default=choices[0])


def sized(puzzle: Puzzle, reasoner: Reasoner, objective: Objective) -> TrainerSettings:
    """Returns the settings of a run for which none are given; see `sizes`."""
    return TrainerSettings(**sizes(puzzle, reasoner, objective))


def size_model(config: DictConfig, puzzle: Puzzle, typed: Collection[str]) -> dict[str, Any]:
    """Fits a TRM to long questions, where no recipe and no experiment says what it should be.

    Args:
        config: the settings; changed in place.
        puzzle: gives the length of questions.
        typed: settings of the command line, by key; they stay, as do all that differ from `USUAL`.

    Returns:
        what was changed, by key.
    """
    named = {group: config.choices.get(group) for group in ("recipe", "recipe_pair")}
    known = [{row["name"] for row in choices(group)} - {"none"} for group in named]
    fitted = any(name in names for name, names in zip(named.values(), known, strict=True))
    usual = all(config.model.get(name) == value for name, value in USUAL.items())
    short = puzzle.length < LONG
    if short or fitted or not usual or named["recipe"] is None or config.choices.get("experiment"):
        return {}
    chosen = {f"model.{name}": value for name, value in FOR_LONG.items()}
    return _changed(config, {key: value for key, value in chosen.items() if key not in typed})


def size_training(
    config: DictConfig, puzzle: Puzzle, reasoner: Reasoner, objective: Objective
) -> dict[str, Any]:
    """Gives the training settings that neither a recipe nor the user gave; see `sizes`.

    Args:
        config: the settings; changed in place.
        puzzle: what is trained on.
        reasoner: what is trained.
        objective: by what.

    Returns:
        what was chosen, by key.
    """
    trainer = config.trainer
    given = {name: trainer[name] for name in SIZED if not OmegaConf.is_missing(trainer, name)}
    if len(given) == len(SIZED):
        return {}
    chosen = sizes(puzzle, reasoner, objective, trainer.max_minutes, **given)
    return _changed(
        config, {f"trainer.{name}": chosen[name] for name in SIZED if name not in given}
    )


def _changed(config: DictConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in values.items():
        OmegaConf.update(config, key, value)
    return dict(values)


# ---------------------------------------------------------------- how long it will take


def told(trainer: "Trainer", chosen: Mapping[str, Any]) -> list[str]:
    """Says in two lines what was chosen, and how long the schedule takes on this machine."""
    length, vocabulary = trainer.puzzle.slot_mask.shape
    values = " ".join(f"{key}={value}" for key, value in chosen.items())
    lines = [f"sized for {length} tokens, vocabulary {vocabulary}: {values}"]
    if processes.size() > 1:
        return lines  # one process alone cannot take a step
    seconds, steps = seconds_per_update(trainer), trainer.settings.max_optimizer_steps
    if steps is None:
        return [*lines, f"about {1 / seconds:.2g} steps/s here"]
    return [*lines, _how_long(trainer.settings, steps, seconds)]


def doubts(trainer: "Trainer") -> list[str]:
    """Says in a line if a schedule that was given will not come to its end.

    On a CPU, where it is the time that ends it, steps are timed; the run does not change by it.
    """
    settings = trainer.settings
    steps, decay = settings.max_optimizer_steps, settings.decay_steps
    if steps is not None and decay > CUT_SHORT * steps:
        return [
            f"trainer.max_optimizer_steps={steps} ends the run at {steps / decay:.0%} of the "
            f"learning rate's schedule: set trainer.decay_steps={steps}"
        ]
    if settings.max_minutes is None or trainer.device.type != "cpu" or processes.size() > 1:
        return []
    seconds, needed = seconds_per_update(trainer), min(decay, steps or decay)
    too_long = needed * seconds > 60 * settings.max_minutes
    return [_how_long(settings, needed, seconds)] if too_long else []


def _how_long(settings: TrainerSettings, steps: int, seconds: float) -> str:
    """Says how long steps take, and what to set where `max_minutes` ends the run before them."""
    needed, minutes = steps * seconds / 60, settings.max_minutes
    line = f"about {1 / seconds:.2g} steps/s here: {steps} steps take {_minutes(needed)}"
    if minutes is not None and needed > minutes:
        within, enough = max(1, int(60 * minutes / seconds)), math.ceil(1.2 * needed)
        line += (
            f", but trainer.max_minutes={minutes:g} ends the run at step {within}, before the "
            f"learning rate has decayed: set trainer.max_minutes={enough}, or a shorter "
            f"schedule, trainer.max_optimizer_steps={within} trainer.decay_steps={within}"
        )
    return line


def _minutes(number: float) -> str:
    return f"{60 * number:.0f} s" if number < 2 else f"{number:.0f} minutes"


def seconds_per_update(trainer: "Trainer") -> float:
    """Times an optimizer step of a run that has not begun; the run does not change by it."""
    state, progress = trainer.state, trainer.progress
    before, times = deepcopy(state.state_dict()), []
    for _ in range(TIMED):
        started, first = time_on(trainer.device), progress.optimizer_step
        if not fill_lanes(trainer):
            raise KeyboardInterrupt
        trainer.improve_lanes()
        taken = time_on(trainer.device) - started
        times.append(taken / (progress.optimizer_step - first))
    trainer.look()  # so that nothing of these steps is left for the rows of the run
    state.load_state_dict(before)
    return min(times)
