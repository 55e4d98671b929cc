"""New puzzles for the lanes that are finished."""

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from pir.noise import Share, at_hand
from pir.rollout import Lanes
from pir.system import processes
from pir.system.interrupt import stoppable
from pir.training.late_starts import start_late

if TYPE_CHECKING:
    from pir.training.trainer import Trainer


def fill_lanes(trainer: "Trainer") -> bool:
    """Puts new puzzles into the finished lanes; returns False if a signal stops it.

    Finished lanes take the next puzzles in order, over all processes: each knows from the number of
    lanes that are finished in the others which puzzles are its own. Lanes that hold the same puzzle
    (`Term.lanes_per_puzzle`) are refilled together. Generation may take long, so a signal ends it
    at once, as if it had not begun.
    """
    state, progress = trainer.state, trainer.progress
    lanes = state.lanes
    group = trainer.objective.lanes_per_puzzle
    count = (trainer.share.count if lanes is None else _finished(trainer, lanes)) // group
    counts = processes.gathered(torch.tensor([count])).tolist()
    wanted = sum(counts)
    if wanted == 0:
        return True
    # A process that needs none draws one all the same, so that random states stay equal.
    rows = max(1, count)
    first = min(sum(counts[: processes.rank()]), wanted - rows)
    before = state.random.state_dict()
    again = state.hard_puzzles.draws(wanted)
    fresh = wanted - again
    low, high = min(first, fresh), min(first + rows, fresh)
    stopped = False
    try:
        with stoppable():
            start = progress.puzzles_seen + low
            # the next ones are likely as many, and all fresh; but after the first time, when all
            # lanes are filled, as many only where they finish together
            following = progress.puzzles_seen + fresh + first
            ahead = rows if lanes is not None or state.schedule.whole_rollouts else 0
            puzzles = trainer.stream.take(start, high - low, following, ahead)
    except KeyboardInterrupt:
        stopped = True
    if processes.any_of(stopped):
        state.random.load_state_dict(before)
        return False
    if again:
        failed = state.hard_puzzles.draw(again)[
            max(first - fresh, 0) : max(first + rows - fresh, 0)
        ]
        puzzles = torch.cat([puzzles, failed])
    if group > 1:
        puzzles = puzzles[torch.arange(rows).repeat_interleave(group)]
    with at_hand(Share(first * group, rows * group, wanted * group, wanted * group)):
        begun = trainer.begin(puzzles)
        new = start_late(trainer.reasoner, trainer.puzzle, begun, trainer.settings)
    if count:
        state.lanes = new if lanes is None else refill(lanes, new)
    progress.puzzles_seen += fresh
    return True


def refill(lanes: Lanes, fresh: Lanes) -> Lanes:
    """Returns lanes in which the finished ones, in order, are replaced by as many `fresh` ones."""
    if len(fresh.k) == len(lanes.k):
        return fresh
    # their places come first, in order: a device need not tell how many there are
    rows = lanes.finished.byte().argsort(descending=True, stable=True)[: len(fresh.k)]

    def merged(old: Tensor, new: Tensor) -> Tensor:
        return old.index_copy(0, rows, new.to(old.dtype))

    return cast(Lanes, lanes.apply(merged, fresh))


def _finished(trainer: "Trainer", lanes: Lanes) -> int:
    """Returns how many lanes of this process are finished; a device is asked only if need be."""
    first, count = trainer.share.first, trainer.share.count
    if trainer.objective.update == "rollout":  # of whatever length, all lanes end with it
        return count
    steps = trainer.progress.improvement_step
    known = trainer.state.schedule.finished_count(steps, range(first, first + count))
    return int(lanes.finished.sum()) if known is None else known
