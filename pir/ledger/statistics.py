"""The ledger's statistics: what one improvement step did to one puzzle.

A statistic is a function with a docstring that says what it means and a decorator that names its
unit. That is all it takes: it then is a column of every table, a panel of the figure of statistics
and a row of the report. Those that need a label are marked; on puzzles without one they are `nan`.

u is the policy before the step, c the policy after it, y* the label, A = log c - log u; sums and
means of cells run over the positions that the policy writes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pir.ledger.cells import Cells
from pir.ledger.guidance import Region
from pir.reasoner import latents_of
from pir.rollout import Rollout
from pir.runs.records import Statistic

LIVE_GAIN = 0.01
"""A step is live if it raises the score by more than this."""

BINS = 10
"""Bins of confidence, of equal width, for the calibration errors."""

Compute = Callable[[Cells], Tensor]


def _mean(means: Tensor) -> Tensor:
    return means.squeeze(-1)


def _total(means: Tensor) -> Tensor:
    return means.abs().sum(-1)


@dataclass(frozen=True, kw_only=True)
class ComputedStatistic(Statistic):
    """A column of the ledger, and how it is computed.

    Attributes:
        compute: gives the value of every puzzle, shape (B,), or its `width` parts, (B, width).
        width: numbers per puzzle; the ledger averages each over puzzles.
        finish: turns those means, (..., width), into the statistic, (...).
    """

    compute: Compute
    width: int
    finish: Callable[[Tensor], Tensor]


STATISTICS: dict[str, ComputedStatistic] = {}
"""All statistics by name, in the order of the columns."""


def statistic(
    unit: str,
    *,
    label: bool = False,
    width: int = 1,
    finish: Callable[[Tensor], Tensor] = _mean,
) -> Callable[[Compute], Compute]:
    """Adds the decorated function to `STATISTICS`, under its own name; see `ComputedStatistic`."""

    def add(compute: Compute) -> Compute:
        name, meaning = compute.__name__, (compute.__doc__ or "").strip()
        STATISTICS[name] = ComputedStatistic(
            name=name,
            meaning=meaning,
            unit=unit,
            label=label,
            compute=compute,
            width=width,
            finish=finish,
        )
        return compute

    return add


def puzzle_statistics(step: Rollout) -> Tensor:
    """Computes all statistics of one step, float32 of shape (B, sum of the widths)."""
    cells = Cells(step)
    missing = torch.full_like(step.after.score, torch.nan)
    return torch.cat(
        [
            (each.compute(cells) if cells.labelled or not each.label else missing)
            .float()
            .view(len(missing), -1)
            .expand(-1, each.width)
            for each in STATISTICS.values()
        ],
        dim=1,
    )


def parts(values: Tensor) -> dict[str, Tensor]:
    """Splits values as of `puzzle_statistics`, (..., widths), by statistic: (..., width) each."""
    widths = [each.width for each in STATISTICS.values()]
    return dict(zip(STATISTICS, torch.split(values, widths, dim=-1), strict=True))


def finish(means: Tensor) -> dict[str, Tensor]:
    """Turns means over puzzles of `puzzle_statistics`, (..., widths), into the statistics."""
    return {name: STATISTICS[name].finish(part) for name, part in parts(means).items()}


def describe(statistics: Iterable[Statistic]) -> tuple[Statistic, ...]:
    """Returns name, meaning, unit and need of a label, for files that explain themselves."""
    return tuple(
        Statistic(name=s.name, meaning=s.meaning, unit=s.unit, label=s.label) for s in statistics
    )


# ---------------------------------------------------------------- the answer


@statistic("share")
def solved(cells: Cells) -> Tensor:
    """The verifier accepts the answer."""
    return cells.step.after.solved


@statistic("share", label=True)
def exact_accuracy(cells: Cells) -> Tensor:
    """The answer equals the label; far below `solved` on puzzles with many answers."""
    step = cells.step
    label: Tensor = step.puzzles["solution"]
    return ((step.after.answer == label) | ~step.written).all(1)


@statistic("share", label=True)
def cell_accuracy(cells: Cells) -> Tensor:
    """Written cells that equal the label."""
    return cells.mean(cells.answer == cells.label)


@statistic("0 to 1")
def score(cells: Cells) -> Tensor:
    """The verifier's graded value of the answer."""
    return cells.step.after.score


# ---------------------------------------------------------------- what the step gained


@statistic("-1 to 1")
def gain(cells: Cells) -> Tensor:
    """Score after the step minus score before it."""
    return cells.score_gain


@statistic("nats per puzzle", label=True)
def log_prob_gain(cells: Cells) -> Tensor:
    """Realised gain A(y*) = log c(y*) - log u(y*), summed over cells."""
    return cells.sum(cells.log_prob_gain)


@statistic("share")
def improved(cells: Cells) -> Tensor:
    """The gain is above 0."""
    return cells.score_gain > 0


@statistic("share")
def worsened(cells: Cells) -> Tensor:
    """The gain is below 0."""
    return cells.score_gain < 0


@statistic("share")
def unchanged(cells: Cells) -> Tensor:
    """The gain is 0."""
    return cells.score_gain == 0


@statistic("share")
def live(cells: Cells) -> Tensor:
    """The gain is above 0.01."""
    return cells.score_gain > LIVE_GAIN


@statistic("share")
def newly_solved(cells: Cells) -> Tensor:
    """The answer is right for the first time, and was wrong before the step."""
    return (cells.step.first_solved == cells.step.k) & ~cells.step.before.solved


@statistic("share")
def lost(cells: Cells) -> Tensor:
    """The answer was right before the step and is wrong after it."""
    return cells.step.before.solved & ~cells.step.after.solved


@statistic("share", label=True)
def cells_fixed(cells: Cells) -> Tensor:
    """Written cells that did not equal the label before the step and do after it."""
    return cells.mean((cells.previous != cells.label) & (cells.answer == cells.label))


@statistic("share", label=True)
def cells_broken(cells: Cells) -> Tensor:
    """Written cells that equalled the label before the step and do not after it."""
    return cells.mean((cells.previous == cells.label) & (cells.answer != cells.label))


# ---------------------------------------------------------------- how far the policy moved


@statistic("nats per cell")
def kl(cells: Cells) -> Tensor:
    """Mean KL(c || u), of a step's policy from that of the step before."""
    return cells.mean(cells.kl)


@statistic("nats per cell")
def reverse_kl(cells: Cells) -> Tensor:
    """Mean KL(u || c)."""
    return cells.mean(cells.reverse_kl)


@statistic("share")
def flips(cells: Cells) -> Tensor:
    """Written cells of the answer that changed."""
    return cells.mean(cells.answer != cells.previous)


@statistic("share of its norm")
def state_change(cells: Cells) -> Tensor:
    """Norm of the state's change over that of the state before; 1 from a state of zeros."""
    before, after = (latents_of(at.state) for at in (cells.step.before, cells.step.after))
    size = _square(before)
    size = torch.where(size > 0, size, _square(after))
    moved = _square([new - old for new, old in zip(after, before, strict=True)])
    return (moved / size.clamp(min=1e-12)).sqrt()


@statistic("logits per cell")
def logit_change(cells: Cells) -> Tensor:
    """Mean norm of the change of a written cell's logits."""
    before, after = cells.take(cells.step.before.logits), cells.take(cells.step.after.logits)
    return cells.mean((after - before).norm(dim=-1))


def _square(latents: Sequence[Tensor]) -> Tensor:
    """Returns the squared norm over all latents, (B,)."""
    return torch.stack([latent.flatten(1).square().sum(1) for latent in latents]).sum(0)


@statistic("nats per cell")
def entropy(cells: Cells) -> Tensor:
    """Mean entropy of c."""
    return cells.mean(-(cells.c * cells.log_c).sum(-1))


@statistic("probability")
def halt_probability(cells: Cells) -> Tensor:
    """What the halt head gives to the answer being right; nan without one."""
    logit = cells.step.after.halt_logit
    if logit is None:
        return torch.full_like(cells.step.after.score, torch.nan)
    return logit.detach().sigmoid()


# ---------------------------------------------------------------- in the right direction?


@statistic("nats per cell", label=True)
def advantage_margin(cells: Cells) -> Tensor:
    """Margin at w = 1, A(y*) - KL(c || u): above 0 a longer step would gain more."""
    return cells.mean(cells.log_prob_gain - cells.kl)


@statistic("nats per cell", label=True)
def advantage_margin_0(cells: Cells) -> Tensor:
    """Margin at w = 0, A(y*) + KL(u || c): above 0 a small enough step gains (Eq. 18)."""
    return cells.mean(cells.log_prob_gain + cells.reverse_kl)


@statistic("share")
def dead(cells: Cells) -> Tensor:
    """The gain is not above 0: idle, busy or an overshoot."""
    return cells.dead


@statistic("share")
def idle(cells: Cells) -> Tensor:
    """Dead, and mean KL(c || u) is below 0.001 nats per cell: the policy hardly moved."""
    return cells.idle


@statistic("share")
def busy(cells: Cells) -> Tensor:
    """Dead, neither idle nor an overshoot: the policy moved without a gain."""
    return cells.busy


@statistic("share", label=True)
def overshoot(cells: Cells) -> Tensor:
    """Dead, not idle, and -sum KL(u || c) < sum A(y*) < 0: the right direction, too far."""
    return cells.overshoot


@statistic("share", label=True)
def harmful_cells(cells: Cells) -> Tensor:
    """Cells that moved in the wrong direction: A(y*) <= -KL(u || c)."""
    return cells.mean(cells.region == Region.HARMFUL)


@statistic("share", label=True)
def overshoot_cells(cells: Cells) -> Tensor:
    """Cells that moved in the right direction, too far: -KL(u || c) < A(y*) < 0."""
    return cells.mean(cells.region == Region.OVERSHOOT)


@statistic("share", label=True)
def sized_right_cells(cells: Cells) -> Tensor:
    """Cells that gained and should not have moved farther: 0 <= A(y*) <= KL(c || u)."""
    return cells.mean(cells.region == Region.SIZED_RIGHT)


@statistic("share", label=True)
def under_sized_cells(cells: Cells) -> Tensor:
    """Cells that gained and would have gained more by moving farther: A(y*) > KL(c || u)."""
    return cells.mean(cells.region == Region.UNDER_SIZED)


# ---------------------------------------------------------------- is its confidence deserved?


@statistic("probability", label=True, width=BINS, finish=_total)
def ece(cells: Cells) -> Tensor:
    """Expected calibration error of cells: confidence against equality with the label, 10 bins."""
    confidence = cells.log_confidence.exp()
    surplus = (confidence - (cells.answer == cells.label).float()) / cells.count[cells.puzzle]
    return _binned(confidence, cells.counted(surplus), cells.puzzle, len(cells.count))


@statistic("probability", width=BINS, finish=_total)
def answer_ece(cells: Cells) -> Tensor:
    """Expected calibration error of answers: probability under c against being solved, 10 bins."""
    probability = cells.sum(cells.log_confidence).exp()
    each = torch.arange(len(probability), device=probability.device)
    return _binned(probability, probability - cells.step.after.solved.float(), each, len(each))


def _binned(confidence: Tensor, surplus: Tensor, puzzle: Tensor, puzzles: int) -> Tensor:
    """Adds up `surplus` (N,) by puzzle and bin of confidence: (puzzles, BINS)."""
    place = puzzle * BINS + (confidence * BINS).long().clamp(0, BINS - 1)
    zeros = surplus.new_zeros(puzzles * BINS)
    return zeros.index_add_(0, place, surplus).view(puzzles, BINS)
