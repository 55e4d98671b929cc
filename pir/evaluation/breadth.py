"""Several rollouts per puzzle from starts with noise, and ways to choose among their answers."""

from functools import partial
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.evaluation.probes import with_interval
from pir.evaluation.rollouts import EVALUATION_SEED, evaluate
from pir.noise import disturbed
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner

LAST_STEPS = 3
"""Over so many the selector `logit_change` takes the mean."""

NEEDED = ("solved", "score", "state_change", "logit_change", "halt_probability")
"""Statistics that the selectors read."""


def noisy_start(reasoner: Reasoner, question: Tensor, noise: float) -> TensorDict:
    """Returns the reasoner's start with Gaussian noise of a relative size, see `disturbed`."""
    return disturbed(reasoner.start(question), question, "noise", noise)


def breadth(
    reasoner: Reasoner,
    puzzle: Puzzle,
    puzzles: TensorDict,
    starts: int,
    noise: float,
    batch_size: int,
    num_steps: int | None = None,
    step_noise: float = 0.0,
) -> list[dict[str, Any]]:
    """Runs every puzzle from several starts, the first one without noise.

    Selectors: `first` (the start without noise: no breadth), `mean` (a start chosen at random),
    `vote` (the most frequent whole answer), `residual` (the smallest change of the state in the
    last step), `logit_change` (the smallest change of the logits, mean of the last three steps, as
    EqR, arXiv:2605.21488), `halt_head` (the largest halt probability, if there is a head) and
    `verifier` (the highest score: whether any start solves it).

    Args:
        reasoner: takes the steps.
        puzzle: judges the answers.
        puzzles: N of them.
        starts: per puzzle.
        noise: of all starts but the first, see `noisy_start`.
        batch_size: puzzles improved at once.
        num_steps: improvement steps; None for the trained number.
        step_noise: on the state after every step, also of the first start; see `improve`.

    Returns:
        One row per selector: `selector`, `starts`, `forward_passes` in all, `solved` with its 95 %
        interval, `score`.
    """
    depth = num_steps or reasoner.improvement_steps
    answers: list[Tensor] = []
    ends: dict[str, list[Tensor]] = {name: [] for name in NEEDED}
    for number in range(starts):
        run = evaluate(
            reasoner,
            puzzle,
            puzzles,
            depth,
            batch_size,
            step_noise=step_noise,
            start=partial(noisy_start, reasoner, noise=noise if number else 0.0),
            seed=EVALUATION_SEED + number,
        )
        answers.append(run.answers)
        for name, values in ends.items():  # the rest of a deep rollout would fill the memory
            values.append(run.values[name][:, -LAST_STEPS:].clone())

    def last(name: str) -> Tensor:
        return torch.stack([values[:, -1] for values in ends[name]], 1)

    solved, score = last("solved"), last("score")
    chosen = {
        "first": torch.zeros(len(solved), dtype=torch.int64),
        "vote": _vote(torch.stack(answers, 1)),
        "residual": last("state_change").argmin(1),
        "logit_change": stillest(torch.stack(ends["logit_change"], 1)),
        "halt_head": last("halt_probability").argmax(1),
        "verifier": score.argmax(1),
    }
    if last("halt_probability").isnan().all():
        del chosen["halt_head"]
    picked = {
        name: [values.gather(1, index[:, None]).mean() for values in (solved, score)]
        for name, index in chosen.items()
    }
    picked["mean"] = [solved.mean(), score.mean()]
    passes = depth * reasoner.passes_per_step
    return [
        {
            "selector": name,
            "starts": 1 if name in ("first", "mean") else starts,
            "forward_passes": passes * (1 if name in ("first", "mean") else starts),
        }
        | with_interval(float(share), len(solved))
        | {"score": float(mean_score)}
        for name, (share, mean_score) in picked.items()
    ]


def stillest(change: Tensor) -> Tensor:
    """Returns which of S rollouts changed least in its last steps: (N,), of changes (N, S, K)."""
    return change[..., -LAST_STEPS:].mean(-1).argmin(1)


def _vote(answers: Tensor) -> Tensor:
    """Returns which of the answers (N, S, L) agrees with most others, the first of them: (N,)."""
    agree = [(answers == answer[:, None]).all(-1).sum(1) for answer in answers.unbind(1)]
    return torch.stack(agree, 1).argmax(1)
