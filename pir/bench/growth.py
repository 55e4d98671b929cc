"""What `pir bench growth` measures: how time and memory grow with one size, the others at rest.

Batch, tokens and width are those of a training step of a TRM on mazes. Steps are improvement steps
of an evaluation, as a training step with staggered lanes takes one, whatever K is.
"""

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import torch

from pir.bench.contenders import Trained
from pir.bench.training import trainer_of
from pir.checks import check_choice
from pir.evaluation.batch_size import Peak
from pir.evaluation.rollouts import evaluate, held_out
from pir.settings.describe import composed
from pir.system.device import time_on
from pir.system.memory import PeakMemory

MAZE = ["env=maze", "recipe=none", "recipe_pair=none", "objective=deep_supervision", "model=trm"]
MAZE += ["model.mixer=attention", "trainer.compile=none"]

REST = {"batch": 64, "tokens": 81, "steps": 4, "width": 64}
"""The sizes that do not grow."""

SIZES = {
    "batch": (16, 32, 64, 128, 256, 512),
    "tokens": (49, 81, 121, 225, 361),
    "steps": (1, 2, 4, 8, 16, 32, 64),
    "width": (32, 64, 128, 256, 512),
}
"""Puzzles in a step; tokens of a puzzle, squares of the side of a maze; K; D."""

BENT = 1.2
"""A size has left the straight line where one more of it costs this many times what the cheapest
range before did."""

NOISE = 0.02
"""A rise by a smaller share than this is none."""


def measure(axes: Sequence[str], seconds: float, device: torch.device) -> Iterator[dict[str, Any]]:
    """Yields a row per size, from small to large.

    Args:
        axes: names of `SIZES`.
        seconds: that a measurement takes at least; it has at least one step.
        device: where to compute.

    Raises:
        UserError: if there is no such axis.
    """
    for axis in axes:
        check_choice("axes", axis, list(SIZES))
    for axis in axes:
        rows: list[dict[str, Any]] = []
        for size in SIZES[axis]:
            taken, memory = _measured(REST | {axis: size}, axis == "steps", seconds, device)
            row = {"axis": axis, "size": size, "milliseconds": 1000 * taken, "memory_bytes": memory}
            rows.append(row)
            yield row | {
                "time_bends": bend(rows, "milliseconds") == size,
                "memory_bends": bend(rows, "memory_bytes") == size,
            }


def bend(rows: Sequence[dict[str, Any]], column: str) -> int | None:
    """Returns the first size at which a column grows faster than in proportion, None for none.

    From size to size, one more costs (y' - y) / (x' - x): constant on a straight line, whatever its
    height at 0.
    """
    cheapest = math.inf
    for small, large in pairwise(rows):
        rise = large[column] - small[column]
        if rise <= NOISE * small[column]:
            continue
        slope = rise / (large["size"] - small["size"])
        if slope > BENT * cheapest:
            size: int = large["size"]
            return size
        cheapest = min(cheapest, slope)
    return None


def _measured(
    sizes: dict[str, int], evaluates: bool, seconds: float, device: torch.device
) -> tuple[float, int]:
    """Returns seconds of a step (or of an evaluation), and the bytes that it needs at most.

    On a CPU these are the bytes of tensors, weights and all: what the process holds depends on what
    it has computed before.
    """
    side = math.isqrt(sizes["tokens"])
    words = [f"env.height={side}", f"env.width={side}", f"model.hidden_size={sizes['width']}"]
    words += [f"model.improvement_steps={sizes['steps']}", f"trainer.batch_size={sizes['batch']}"]
    words += [f"device={device}", "run=null"]
    gc.collect()
    peak = PeakMemory(device)
    with Peak() if device.type == "cpu" else nullcontext() as tensors:
        trainer = trainer_of(composed("train", [*MAZE, *words]).config)
        run: Callable[[int], float] = Trained(trainer).run
        if evaluates:
            puzzles = held_out(trainer.puzzle, "val", sizes["batch"], device)

            def run(count: int) -> float:
                started = time_on(device)
                for _ in range(count):
                    evaluate(
                        trainer.trained, trainer.puzzle, puzzles, sizes["steps"], sizes["batch"]
                    )
                return time_on(device) - started

        run(1)  # warm up
    count = max(1, math.ceil(seconds / max(run(1), 1e-9)))
    taken = run(count) / count
    return taken, tensors.most if tensors else peak.read()
