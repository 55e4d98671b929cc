"""Several rollouts per puzzle from starts with noise, and ways to choose among their answers."""

from functools import partial
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.evaluation.probes import with_interval
from pir.evaluation.rollouts import EVALUATION_SEED, Evaluation, evaluate
from pir.noise import normal
from pir.puzzle import Puzzle
from pir.reasoner import Reasoner


def noisy_start(reasoner: Reasoner, question: Tensor, noise: float) -> TensorDict:
    """Returns the reasoner's start with Gaussian noise, see `pir.noise.normal`.

    Args:
        reasoner: gives the start.
        question: uint8 of shape (B, L).
        noise: standard deviation, as a share of the root mean square of each puzzle's latent, or of
            1 where that is 0, as latents are about so large later.
    """

    def disturbed(name: str, values: Tensor) -> Tensor:
        drawn = normal(question, f"noise {name}", *values.shape[1:])
        size = values.float().flatten(1).square().mean(1).sqrt()
        size = torch.where(size > 0, size, 1.0).view(-1, *[1] * (values.ndim - 1))
        return (values + noise * size * drawn).to(values.dtype)

    return reasoner.start(question).named_apply(disturbed)


def breadth(
    reasoner: Reasoner,
    puzzle: Puzzle,
    puzzles: TensorDict,
    starts: int,
    noise: float,
    batch_size: int,
) -> list[dict[str, Any]]:
    """Runs every puzzle from several starts to the trained depth, the first one without noise.

    Selectors: `first` (the start without noise: no breadth), `mean` (a start chosen at random),
    `vote` (the most frequent whole answer), `residual` (the smallest change of the state in the
    last step), `halt_head` (the largest halt probability, if there is a head) and `verifier` (the
    highest score: whether any start solves it).

    Returns:
        One row per selector: `selector`, `starts`, `forward_passes` in all, `solved` with its 95 %
        interval, `score`.
    """
    depth = reasoner.improvement_steps
    runs: list[Evaluation] = []
    for number in range(starts):
        start = partial(noisy_start, reasoner, noise=noise if number else 0.0)
        seed = EVALUATION_SEED + number
        runs.append(evaluate(reasoner, puzzle, puzzles, depth, batch_size, start=start, seed=seed))

    def last(name: str) -> Tensor:
        return torch.stack([run.values[name][:, -1] for run in runs], 1)

    solved, score = last("solved"), last("score")
    chosen = {
        "first": torch.zeros(len(solved), dtype=torch.int64),
        "vote": _vote(torch.stack([run.answers for run in runs], 1)),
        "residual": last("state_change").argmin(1),
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


def _vote(answers: Tensor) -> Tensor:
    """Returns which of the answers (N, S, L) agrees with most others, the first of them: (N,)."""
    agree = [(answers == answer[:, None]).all(-1).sum(1) for answer in answers.unbind(1)]
    return torch.stack(agree, 1).argmax(1)
