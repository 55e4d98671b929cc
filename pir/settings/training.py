"""The settings of the training loop: names, types, defaults and meaning, in one place."""

import math
from dataclasses import Field, dataclass, fields
from numbers import Real
from typing import Any, get_args

from pir.errors import UserError

AT_LEAST_ONE = (
    "batch_size",
    "micro_batches",
    "replay_size",
    "late_steps",
    "log_every",
    "eval_every",
    "val_puzzles",
    "test_puzzles",
    "eval_batch_size",
)
SIZED = (
    "batch_size",
    "warmup_steps",
    "decay_steps",
    "max_optimizer_steps",
    "val_puzzles",
    "test_puzzles",
)
"""What `pir train` chooses by the puzzle where neither a recipe nor the user gives it."""

MOST_COUNTED = 1 << 53
"""The most that is counted of anything: numbers up to here are exact in every file."""

BUDGETS = ("max_optimizer_steps", "max_minutes", "max_forward_passes")

CHANGEABLE = (
    *(f"trainer.{name}" for name in BUDGETS),
    "trainer.patience",
    "trainer.test_puzzles",
    "trainer.eval_batch_size",
    "trainer.micro_batches",
    "trainer.checkpoint_activations",
    "trainer.threads",
    "trainer.compile",
    "logger",
    "device",
)
"""What may differ when a run is resumed: how long and where, not what is trained."""


@dataclass
class TrainerSettings:
    """How to train; the defaults suit Countdown with three numbers on two CPU cores.

    A run ends when one budget is spent: `max_optimizer_steps`, `max_minutes`, `max_forward_passes`
    or `patience`; null for no such budget. Totals count over resumes.

    Attributes:
        batch_size: lanes B, puzzles improved at once, over all processes that train together; every
            update learns from one step of each.
        micro_batches: parts that a process takes its lanes in, one after another, where the memory
            does not hold the gradients of all at once; changes memory, time and rounding alone.
        checkpoint_activations: keep only what goes into each block of the network for the backward
            pass, and compute the rest again then: less memory, more time, the same losses.
        replay_share: share of the puzzles entering the lanes that are drawn from those failed
            last; 0 for none.
        replay_size: the most failed puzzles that are kept for it.
        late_share: share of the refills whose lanes start late, in the state after further steps
            without gradient, which count as forward passes; 0 for none.
        late_steps: the most of those steps. Their number is drawn evenly from 32, 64, 128 ... up to
            it; it is `late_steps` itself below 32.
        warmup_steps: optimizer steps until the learning rate reaches its peak.
        decay_steps: optimizer step at which the learning rate reaches its end; independent of the
            budgets.
        final_lr_ratio: learning rate at the end, as a share of its peak.
        max_grad_norm: gradients are scaled down to this norm.
        ema_decay: decay of the averaged weights, per optimizer step; evaluation uses the average.
        max_optimizer_steps: budget in optimizer steps.
        max_minutes: budget in minutes of training, a guard on slow machines.
        max_forward_passes: budget in network evaluations, one per lane and pass.
        patience: evaluations without a better validation result after which the run ends.
        log_every: optimizer steps between rows of metrics.csv.
        eval_every: optimizer steps between evaluations on the validation split, each followed by a
            checkpoint.
        val_puzzles: held-out puzzles for validation.
        test_puzzles: held-out puzzles for the test at the end of `pir train`.
        eval_batch_size: held-out puzzles improved at once in validation and test; changes speed
            and memory, nothing else (but the rounding of products); null for as many as fit into
            memory, at most 1000. Validation by compiled code takes no more than training does.
        threads: processor threads, 1 to 1024; null for torch's choice, or fewer where other
            programs keep cores busy at the start of `pir train` (another number rounds otherwise).
        compile: whether the network runs under torch.compile, which rounds otherwise: none,
            default, reduce-overhead (with CUDA graphs), or auto for default where the run is long
            enough to pay for compiling and torch finds a compiler; config.yaml says what it chose.
            Long validations run compiled too.

    Raises:
        UserError: if a value is out of range, or no budget is set.
    """

    batch_size: int = 768
    micro_batches: int = 1
    checkpoint_activations: bool = False
    replay_share: float = 0.0
    replay_size: int = 10_000
    late_share: float = 0.0
    late_steps: int = 512
    warmup_steps: int = 100
    decay_steps: int = 1300
    final_lr_ratio: float = 0.02
    max_grad_norm: float = 1.0
    ema_decay: float = 0.995
    max_optimizer_steps: int | None = 1300
    max_minutes: float | None = 9.0
    max_forward_passes: int | None = None
    patience: int | None = 10
    log_every: int = 50
    eval_every: int = 100
    val_puzzles: int = 1000
    test_puzzles: int = 4000
    eval_batch_size: int | None = None
    threads: int | None = None
    compile: str = "auto"

    def __post_init__(self) -> None:
        """Refuses values that are out of range, naming the key, its value and what is allowed."""
        values = {each.name: _of_kind(each, getattr(self, each.name)) for each in fields(self)}
        vars(self).update(values)
        _refuse_uncountable(values)
        for key in AT_LEAST_ONE:
            if values[key] is not None and values[key] < 1:
                raise UserError(f"trainer.{key}={values[key]}: must be at least 1")
        for key in (*BUDGETS, "patience"):
            if values[key] is not None and not values[key] > 0:
                raise UserError(f"trainer.{key}={values[key]}: must be above 0, or null for none")
        if all(values[key] is None for key in BUDGETS):
            raise UserError(
                f"set a budget: one of {', '.join(f'trainer.{key}' for key in BUDGETS)}"
            )
        for key in ("warmup_steps", "decay_steps"):
            if values[key] < 0:
                raise UserError(f"trainer.{key}={values[key]}: must be at least 0")
        for key in ("late_share", "final_lr_ratio", "ema_decay"):
            if not 0 <= values[key] <= 1:
                raise UserError(f"trainer.{key}={values[key]}: must lie in [0, 1]")
        if not 0 <= self.replay_share < 1:
            raise UserError(f"trainer.replay_share={self.replay_share}: must lie in [0, 1)")
        if not self.max_grad_norm > 0:
            raise UserError(f"trainer.max_grad_norm={self.max_grad_norm}: must be above 0")


KINDS = {int: "a whole number", float: "a number", bool: "True or False", str: "a text"}


def _of_kind(field: Field[Any], value: Any) -> Any:
    """Returns a value as its setting's own kind: whole numbers may come as 1e4 or from numpy.

    Raises:
        UserError: if it is of another kind.
    """
    kind, *none = get_args(field.type) or (field.type,)
    if value is None and none:
        return None
    numeric = kind in (int, float) and isinstance(value, Real) and not isinstance(value, bool)
    if numeric and kind is float:
        return value if isinstance(value, int) else float(value)
    if numeric and value == value // 1:
        return int(value)
    if kind in (bool, str) and isinstance(value, kind):
        return value
    allowed = KINDS[kind] + (" or None" if none else "")
    raise UserError(f"trainer.{field.name}={value!r}: allowed is {allowed}")


def _refuse_uncountable(values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, int) and value > MOST_COUNTED:
            raise UserError(f"trainer.{key}={str(value)[:24]}: must be at most {MOST_COUNTED}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"trainer.{key}={value}: must be a finite number")
