"""The improvement loop with an exit rule: puzzles that are done leave the batch."""

from collections.abc import Iterator

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.errors import UserError
from pir.exits.rules import ExitRule
from pir.ledger.cells import Cells
from pir.ledger.statistics import STATISTICS
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner, in_use, refuse_infinite
from pir.rollout import Rollout, begin, improve


@torch.no_grad()
def steps_until_exit(
    reasoner: Reasoner,
    puzzle: Puzzle,
    puzzles: TensorDict,
    rule: ExitRule,
    threshold: float,
    most: int,
    state: TensorDict | None = None,
) -> Iterator[tuple[Tensor, Rollout]]:
    """Improves answers step by step until the rule stops them.

    Args:
        reasoner: does the steps.
        puzzle: judges the answers.
        puzzles: `question` of B puzzles.
        rule: when to stop.
        threshold: on its signal.
        most: improvement steps at which every puzzle stops.
        state: before the first step; None for the reasoner's own start.

    Yields:
        the numbers of the puzzles that took a step, int64, and the step of these alone. A puzzle's
        last step is its exit.

    Raises:
        UserError: if the model lacks a statistic that the rule needs, such as a halt head's, or its
            logits hold minus infinity.
    """
    with in_use(reasoner):
        lanes = begin(reasoner, puzzle, puzzles, state)
    refuse_infinite(lanes.now.logits)
    rows = torch.arange(len(puzzles), device=lanes.k.device)
    history = {name: torch.zeros(len(rows), 0, device=rows.device) for name in rule.needs}
    for k in range(1, most + 1):
        with in_use(reasoner):  # and not while the caller has the step
            lanes, step = improve(reasoner, puzzle, lanes)
        yield rows, step
        if k == most:
            return
        cells = Cells(step)
        for name in rule.needs:
            value = STATISTICS[name].compute(cells).float()
            if bool(value.isnan().any()):
                raise UserError(f"the exit rule needs {name}, which this model does not have")
            history[name] = torch.cat([history[name], value[:, None]], 1)
        stays = ~(rule.signal(history)[:, -1] >= threshold)
        rows, lanes = rows[stays], lanes[stays]
        history = {name: values[stays] for name, values in history.items()}
        if not len(rows):
            return
