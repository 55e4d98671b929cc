"""Observers of an evaluation: guided policies, scaled steps, samples of cells and latents.

None of them changes the course of the rollouts.
"""

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.evaluation.intervals import wilson_interval
from pir.ledger.cells import Cells
from pir.ledger.guidance import Region, best_weight, guided_log_policy, margin
from pir.noise import uniform_of
from pir.puzzle import Puzzle, Verdict
from pir.reasoner import Optimality, Reasoner, latents_of
from pir.rollout import Rollout, begin, changed, improve, part_way, sample_answers
from pir.system.device import own_random_stream

REGION_NAMES = {-1: "still", **{region.value: region.name.lower() for region in Region}}


def with_interval(solved: float, count: int) -> dict[str, float]:
    """Returns a share of `count` puzzles with its 95 % Wilson interval, as columns."""
    low, high = wilson_interval(solved * count, count)
    return {"solved": solved, "solved_low": low, "solved_high": high}


class _Sweep:
    """Sums of some values over puzzles, per setting and step."""

    def __init__(self, settings: Sequence[float], num_steps: int, columns: Sequence[str]) -> None:
        self.settings, self.columns = tuple(settings), tuple(columns)
        self.sums = torch.zeros(len(self.settings), num_steps, len(columns), dtype=torch.float64)
        self.puzzles = 0

    def add(self, index: int, step: Rollout, values: Sequence[Tensor]) -> None:
        """Adds values, each (B,), of a setting at a step."""
        if index == 0 and int(step.k[0]) == 1:
            self.puzzles += len(step.k)
        sums = torch.stack([value.cpu().double().sum() for value in values])
        self.sums[index, int(step.k[0]) - 1] += sums

    def rows(self, setting: str, passes_per_step: int) -> list[dict[str, Any]]:
        """Returns one row per setting and step, `solved` with its interval."""
        means = self.sums / max(1, self.puzzles)
        return [
            {setting: value, "k": k + 1, "forward_passes": (k + 1) * passes_per_step}
            | with_interval(float(means[i, k, 0]), self.puzzles)
            | dict(zip(self.columns[1:], means[i, k, 1:].tolist(), strict=True))
            for i, value in enumerate(self.settings)
            for k in range(means.shape[1])
        ]


class GuidanceSweep:
    """What the guided policies p_w of every step answer, for some weights w.

    w = 0 reads out the policy before the step, w = 1 the one after it; w > 1 goes on in the step's
    direction, at no further forward pass. Besides the most likely answer, one is drawn per puzzle.

    Args:
        puzzle: judges the answers.
        weights: the w.
        num_steps: steps of the evaluation.
    """

    def __init__(self, puzzle: Puzzle, weights: Sequence[float], num_steps: int) -> None:
        """Starts empty."""
        self.puzzle = puzzle
        self.sweep = _Sweep(
            weights, num_steps, ("solved", "score", "drawn_solved", "nll", "margin")
        )

    def see(self, step: Rollout, first: int) -> None:
        """See `Observer.see`."""
        if not self.sweep.settings:
            return
        cells = Cells(step)
        question = step.puzzles["question"]
        for index, w in enumerate(self.sweep.settings):
            logits = step.before.logits.lerp(step.after.logits, w)  # exact at w = 0 and 1
            answer = self.puzzle.clamp(question, logits.argmax(-1))
            verdict = self.puzzle.verify(question, answer)
            drawn = sample_answers(self.puzzle, question, logits, 1, step.k)[:, 0]
            drawn_solved = self.puzzle.verify(question, drawn).solved
            nll = slope = torch.full_like(verdict.score, torch.nan)
            if cells.labelled:
                guided = guided_log_policy(cells.log_u, cells.log_c, w)
                nll = -cells.mean(guided.gather(1, cells.label[:, None]).squeeze(1))
                slope = cells.mean(margin(cells.log_u, cells.log_c, cells.label, w))
            self.sweep.add(index, step, [verdict.solved, verdict.score, drawn_solved, nll, slope])


class OptimalitySweep(GuidanceSweep):
    """The same between the unconditional policy (w = 0) and that of good answers (w = 1).

    The unconditional policy has rollouts of its own beside those that are evaluated.

    Args:
        reasoner: takes the steps.
        puzzle: see `GuidanceSweep`.
        weights: see `GuidanceSweep`.
        num_steps: see `GuidanceSweep`.
    """

    def __init__(
        self, reasoner: Reasoner, puzzle: Puzzle, weights: Sequence[float], num_steps: int
    ) -> None:
        """Starts without sums."""
        super().__init__(puzzle, weights, num_steps)
        self.reasoner = reasoner

    def see(self, step: Rollout, first: int) -> None:
        """See `Observer.see`."""
        if not self.sweep.settings or "optimality" not in self.reasoner.inputs:
            return
        with own_random_stream(step.k.device):
            if int(step.k[0]) == 1:
                self.unconditional = begin(self.reasoner, self.puzzle, step.puzzles)
            none = {"optimality": torch.full_like(step.k, Optimality.NONE)}
            self.unconditional, _ = improve(self.reasoner, self.puzzle, self.unconditional, none)
        super().see(changed(step, before=self.unconditional.now), first)

    def rows(self, passes_per_step: int) -> list[dict[str, Any]]:
        """Returns the table, of twice the forward passes; empty without optimality tokens."""
        return self.sweep.rows("w", 2 * passes_per_step) if self.sweep.puzzles else []


class StepSizeProbe:
    """What every step would have answered had it changed the state by a share of its change.

    Args:
        reasoner: reads the policy off the state in between.
        puzzle: judges the answers.
        step_sizes: the shares alpha, in s + alpha (s' - s).
        num_steps: steps of the evaluation.
    """

    def __init__(
        self, reasoner: Reasoner, puzzle: Puzzle, step_sizes: Sequence[float], num_steps: int
    ) -> None:
        """Starts empty."""
        self.reasoner, self.puzzle = reasoner, puzzle
        self.sweep = _Sweep(step_sizes, num_steps, ("solved", "score"))

    def see(self, step: Rollout, first: int) -> None:
        """See `Observer.see`."""
        for index, alpha in enumerate(self.sweep.settings):
            verdict = self._verdict(step, alpha)
            self.sweep.add(index, step, [verdict.solved, verdict.score])

    def _verdict(self, step: Rollout, alpha: float) -> Verdict:
        state = part_way(step.before.state, step.after.state, alpha)
        question = step.puzzles["question"]
        answer = self.reasoner.read_out(state).logits.argmax(-1)
        return self.puzzle.verify(question, self.puzzle.clamp(question, answer))


class CellSample:
    """A sample of written cells at every step: gain, divergences, region and best weight.

    Every cell of every puzzle has a random number of its own; those with the smallest are kept.

    Args:
        per_step: the most cells kept of every step.
    """

    def __init__(self, per_step: int = 300) -> None:
        """Starts empty."""
        self.per_step = per_step
        self.kept: dict[int, list[tuple[float, dict[str, Any]]]] = {}

    def see(self, step: Rollout, first: int) -> None:
        """See `Observer.see`."""
        cells = Cells(step, picked=True)
        if not cells.labelled:
            return
        k = int(step.k[0])
        kept = self.kept.get(k, [])
        number = uniform_of((first * step.written.shape[1] + cells.places) << 16 ^ k)
        chosen = number.argsort(stable=True)[: self.per_step]
        if len(kept) == self.per_step:
            chosen = chosen[number[chosen] < kept[-1][0]]
        u, c, label = cells.log_u[chosen], cells.log_c[chosen], cells.label[chosen]
        columns = {
            "puzzle": first + cells.puzzle[chosen],
            "gain": cells.log_prob_gain[chosen],
            "kl": cells.kl[chosen],
            "reverse_kl": cells.reverse_kl[chosen],
            "region": cells.region[chosen],
            "best_w": best_weight(u, c, label),
        }
        rows = (
            {"k": k} | dict(zip(columns, values, strict=True))
            for values in zip(*(column.tolist() for column in columns.values()), strict=True)
        )
        kept = [*kept, *zip(number[chosen].tolist(), rows, strict=True)]
        self.kept[k] = sorted(kept, key=lambda pair: pair[0])[: self.per_step]

    def with_outcome(self, solved: Tensor) -> list[dict[str, Any]]:
        """Returns the rows with the outcome of their puzzles, from bool (N,)."""
        rows = (row for k in sorted(self.kept) for _, row in self.kept[k])
        return [
            {"k": row["k"], "solved": int(solved[row["puzzle"]])}
            | {name: value for name, value in row.items() if name not in ("k", "puzzle")}
            | {"region": REGION_NAMES[row["region"]]}
            for row in rows
        ]


def spread(count: int, most: int) -> list[int]:
    """Returns at most `most` of the indices 0 to `count` - 1, evenly spread, with both ends."""
    kept = min(count, most)
    return [i * (count - 1) // max(1, kept - 1) for i in range(kept)]


class LatentSample:
    """The states of the first puzzles: the start, then every step.

    Kept twice: averaged over tokens, and as the single vectors of `Reasoner.slots`. The latter are
    thinned, so that the file stays small: at most `MOST_STEPS` steps and `MOST_SLOTS` slots, both
    evenly spread, and as many of the first puzzles as `MOST_NUMBERS` allows. Where that would leave
    fewer than `puzzles`, slots are halved down to `FEWEST_SLOTS` first.

    Args:
        reasoner: takes the steps.
        num_steps: steps K of the evaluation.
        depth: a step, from 1, that is never left out: the trained depth.
        puzzles: how many are averaged over tokens, M.
    """

    MOST_PUZZLES, MOST_STEPS, MOST_SLOTS, FEWEST_SLOTS = 256, 16, 16, 4
    MOST_NUMBERS = 2**22
    """8 MiB as float16."""

    def __init__(self, reasoner: Reasoner, num_steps: int, depth: int, puzzles: int = 64) -> None:
        """Starts without states."""
        self.reasoner = reasoner
        self.puzzles = puzzles
        self.kept_steps = sorted({0, depth, *(k + 1 for k in spread(num_steps, self.MOST_STEPS))})
        self.kept_slots: list[int] = []
        self.slot_puzzles = self.MOST_PUZZLES
        self.states: dict[int, list[Tensor]] = {}
        self.slots: dict[int, list[Tensor]] = {}

    def see(self, step: Rollout, first: int) -> None:
        """See `Observer.see`."""
        if int(step.k[0]) == 1:
            self._keep(step.before.state, 0, first)
        self._keep(step.after.state, int(step.k[0]), first)

    def _keep(self, state: TensorDict, k: int, first: int) -> None:
        if first < self.puzzles:
            pooled = self._pooled(state[: self.puzzles - first])
            self.states.setdefault(k, []).append(pooled)
        if first >= self.slot_puzzles or k not in self.kept_steps:
            return
        slots = self.reasoner.slots(state[: self.slot_puzzles - first])
        if not self.kept_slots:
            self.kept_slots, self.slot_puzzles = self._thinned(*slots.shape[1:])
        # float16 ends at 65504; what a state that runs away holds beyond it becomes infinite
        kept = slots[: self.slot_puzzles - first, self.kept_slots].half().cpu()
        self.slots.setdefault(k, []).append(kept)

    def _thinned(self, num_slots: int, width: int) -> tuple[list[int], int]:
        """Returns which of S slots of width D are kept, and of how many puzzles."""
        most = self.MOST_SLOTS
        while True:
            slots = spread(num_slots, most)
            puzzles = self.MOST_NUMBERS // (len(self.kept_steps) * len(slots) * width)
            if puzzles >= self.puzzles or most == self.FEWEST_SLOTS:
                return slots, max(1, min(puzzles, self.MOST_PUZZLES))
            most //= 2

    def _pooled(self, state: TensorDict) -> Tensor:
        leaves = latents_of(state)
        pooled = [leaf.flatten(1, -2).mean(1) if leaf.ndim > 2 else leaf for leaf in leaves]
        return torch.cat([leaf.flatten(1) for leaf in pooled], 1).cpu()

    @property
    def arrays(self) -> dict[str, Tensor]:
        """What `latents.npz` holds.

        Returns:
            `latents`, float32 of shape (M, K + 1, D), averaged over tokens; `slots`, float16 of
            shape (M', K' + 1, S', D'), the single vectors; `slot_steps`, int64 of shape (K' + 1,),
            after which steps, 0 for the start; `slot_index`, int64 of shape (S',), which slots.
        """
        return {
            "latents": torch.stack([torch.cat(parts) for parts in self.states.values()], 1),
            "slots": torch.stack([torch.cat(parts) for parts in self.slots.values()], 1),
            "slot_steps": torch.tensor(self.kept_steps),
            "slot_index": torch.tensor(self.kept_slots),
        }
