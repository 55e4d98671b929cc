"""Several rollouts per puzzle from starts with noise, and ways to choose among their answers."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from pir.checks import check_count
from pir.errors import UserError
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


def starts_differ(reasoner: Reasoner) -> bool:
    """Says whether starts with noise lead to other rollouts."""
    return reasoner.reads_start or "partial_answer" in reasoner.inputs


def check_starts(
    reasoner: Reasoner, key: str, starts: int, noise: float, step_noise: float = 0.0
) -> None:
    """Refuses starts that are none, or several that would all go the same way.

    Args:
        reasoner: starts.
        key: the setting that says how many starts there are, named in the message.
        starts: per puzzle.
        noise: of all starts but the first, see `noisy_start`.
        step_noise: on the state after every step.

    Raises:
        UserError: naming the setting and what to set instead.
    """
    check_count(key, starts)
    if starts == 1 or step_noise:
        return
    if not noise and "partial_answer" not in reasoner.inputs:
        raise UserError(f"{key}={starts}: starts without noise are all the same; set {key}=1")
    if not starts_differ(reasoner):
        raise UserError(
            f"{key}={starts}: the first step of this model does not read the state that it starts "
            f"in, so noise on it changes nothing; set {key}=1"
            + (", or eval.step_noise" if key == "eval.breadth" else "")
        )


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

    Raises:
        UserError: if all starts would go the same way.
    """
    check_starts(reasoner, "eval.breadth", starts, noise, step_noise)
    depth = num_steps or reasoner.improvement_steps
    answers, ends = [], []
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
        # the rest of a deep rollout would fill the memory
        ends.append({name: run.values[name][:, -LAST_STEPS:].clone() for name in NEEDED})
    values = {name: torch.stack([end[name] for end in ends], 1) for name in NEEDED}
    means = _selected(torch.stack(answers, 1), values)
    passes = depth * reasoner.passes_per_step
    return [
        {
            "selector": name,
            "starts": 1 if name in ("first", "mean") else starts,
            "forward_passes": passes * (1 if name in ("first", "mean") else starts),
        }
        | with_interval(solved, len(puzzles))
        | {"score": score}
        for name, (solved, score) in means.items()
    ]


def _selected(answers: Tensor, values: Mapping[str, Tensor]) -> dict[str, tuple[float, float]]:
    """Returns the mean of `solved` and of `score` of what every selector chooses.

    Args:
        answers: uint8 of shape (N, S, L), the last ones of S starts.
        values: the last steps' statistics, (N, S, `LAST_STEPS`) each.
    """
    last = {name: steps[..., -1] for name, steps in values.items()}
    chosen = {
        "first": torch.zeros(len(answers), dtype=torch.int64),
        "vote": _vote(answers),
        "residual": last["state_change"].argmin(1),
        "logit_change": stillest(values["logit_change"]),
        "halt_head": last["halt_probability"].argmax(1),
        "verifier": last["score"].argmax(1),
    }
    if last["halt_probability"].isnan().all():
        del chosen["halt_head"]
    kept = (last["solved"], last["score"])

    def means(picked: Iterable[Tensor]) -> tuple[float, float]:
        solved, score = (float(each.mean()) for each in picked)
        return solved, score

    selected = {
        name: means(each.gather(1, index[:, None]) for each in kept)
        for name, index in chosen.items()
    }
    return selected | {"mean": means(kept)}


def stillest(change: Tensor) -> Tensor:
    """Returns which of S rollouts changed least in its last steps: (N,), of changes (N, S, K)."""
    return change[..., -LAST_STEPS:].mean(-1).argmin(1)


def _vote(answers: Tensor) -> Tensor:
    """Returns which of the answers (N, S, L) agrees with most others, the first of them: (N,)."""
    agree = [(answers == answer[:, None]).all(-1).sum(1) for answer in answers.unbind(1)]
    return torch.stack(agree, 1).argmax(1)
