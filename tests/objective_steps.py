"""Tiny rollouts for the tests of the objectives, and how a loss is held against its reference."""

from collections.abc import Callable, Sequence

import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.queens.rules import Queens
from pir.envs.sudoku.rules import Sudoku
from tensordict import TensorDict
from torch import Tensor

from pir.models.trm import TRM
from pir.objectives import Term
from pir.puzzle import PAD, Puzzle
from pir.reasoner import Policy, Reasoner
from pir.rollout import Lanes, Rollout, begin, gradient_in, improve, stack

PUZZLES: dict[str, Callable[[], Puzzle]] = {
    "countdown": Countdown,
    "queens": lambda: Queens(hide=(2, 6)),
    "sudoku": Sudoku,
}


@pytest.fixture(params=PUZZLES)
def small_puzzle(request: pytest.FixtureRequest) -> Puzzle:
    """Each of them; `puzzle = small_puzzle` in a file of tests gives it its usual name there."""
    return PUZZLES[request.param]()


def make_model(puzzle: Puzzle, **options: object) -> TRM:
    torch.manual_seed(2)
    return TRM(puzzle, **({"hidden_size": 16, "heads": 2, "dtype": "float32"} | options))


def make_rollout(
    puzzle: Puzzle,
    num_steps: int = 1,
    term: Term | None = None,
    batch: int = 4,
    condition: Callable | None = None,
    model: Reasoner | None = None,
    backprop_steps: int = 1,
    lanes_per_puzzle: int = 1,
    **options: object,
) -> list[Rollout]:
    """Puts puzzles into lanes and takes steps as training does, with a tiny model."""
    model = make_model(puzzle, **options) if model is None else model
    puzzles = puzzle.sample(batch // lanes_per_puzzle, "train", seed=6)
    puzzles = puzzles[torch.arange(len(puzzles)).repeat_interleave(lanes_per_puzzle)]
    if term is not None:
        puzzles.update(term.prepare(puzzle, puzzles, num_steps))
    lanes = begin(model, puzzle, puzzles)
    sampled = term is not None and term.sampled_answers
    return take_steps(model, puzzle, lanes, num_steps, condition, backprop_steps, sampled)


def take_steps(
    model: Reasoner,
    puzzle: Puzzle,
    lanes: Lanes,
    num_steps: int,
    condition: Callable | None = None,
    backprop_steps: int = 1,
    sampled: bool = False,
) -> list[Rollout]:
    """Takes steps as training does, with gradient to the parameters."""
    steps = []
    for k in range(1, num_steps + 1):
        told = None if condition is None else condition(lanes)
        with gradient_in(k, num_steps, backprop_steps):
            lanes, step = improve(
                model,
                puzzle,
                lanes,
                told,
                through_time=backprop_steps > 1,
                sampled=sampled,
            )
        steps.append(step)
    return steps


def loss_of(
    term: Term, puzzle: Puzzle, *steps: Rollout, model: Reasoner | None = None, **experience: Tensor
) -> Tensor:
    """Returns the loss of a rollout of some steps, given what was collected, if anything was."""
    rollout = stack(steps)
    if experience:
        rollout.experience = TensorDict(experience, batch_size=rollout.shape)
    return term.loss(rollout, puzzle, model)


def make_leaves(steps: Sequence[Rollout], scale: float = 3.0) -> list[Rollout]:
    """Makes all that the steps read out leaves of the graph, sharper by a factor."""
    for step in steps:
        for name in Policy._fields:
            part = getattr(step.after, name)
            if part is not None:
                setattr(step.after, name, (scale * part.detach()).requires_grad_())
    return list(steps)


def make_step(puzzle: Puzzle, term: Term | None = None, **options: object) -> Rollout:
    (step,) = make_leaves(make_rollout(puzzle, 1, term, **options))
    return step


def leaves(*steps: Rollout) -> list[Tensor]:
    parts = [getattr(step.after, name) for step in steps for name in Policy._fields]
    return [part for part in parts if part is not None]


def gradients(loss: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(
        loss, inputs, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return list(found)


def assert_same(fast: Tensor, slow: Tensor, *steps: Rollout) -> None:
    """Compares values, and gradients to all that the steps read out."""
    assert fast.item() == pytest.approx(slow.item(), rel=1e-5, abs=1e-5)
    ours, expected = gradients(fast, leaves(*steps)), gradients(slow, leaves(*steps))
    for a, b in zip(ours, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert sum(a.abs().sum() for a in ours) > 0.01


def cells(puzzle: Puzzle, step: Rollout) -> list[list[int]]:
    """Lists the written cells of every lane."""
    written = puzzle.written(step.puzzles["question"])
    return [row.nonzero().flatten().tolist() for row in written]


def log_policy(step: Rollout) -> Tensor:
    return step.after.logits.double().log_softmax(-1)


def zero() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


def slow_cross_entropy(puzzle: Puzzle, step: Rollout, target: Tensor) -> Tensor:
    """The mean over written cells with a target, then over lanes."""
    policy, slow = log_policy(step), zero()
    for b, written in enumerate(cells(puzzle, step)):
        counted = [cell for cell in written if int(target[b, cell]) != PAD]
        for cell in counted:
            slow = slow - policy[b, cell, int(target[b, cell])] / len(counted) / len(target)
    return slow


def make_episodes(
    puzzle: Puzzle, term: Term, num_steps: int = 3, **options: object
) -> list[Rollout]:
    """Rollouts of 4 lanes by an untrained model that reads the answer written so far."""
    options = {"written_answer": True, "value_head": True} | options
    steps = make_rollout(puzzle, num_steps, term, lanes_per_puzzle=term.lanes_per_puzzle, **options)
    return make_leaves(steps)


def scores_by_hand(puzzle: Puzzle, steps: Sequence[Rollout]) -> list[list[float]]:
    """The score of every lane's answer before step 1, and after each step."""
    question = steps[0].puzzles["question"]
    held = [question, *(step.after.answer for step in steps)]
    return [puzzle.verify(question, answer).score.tolist() for answer in held]
