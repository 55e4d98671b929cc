"""The loop and the lanes it runs on."""

from itertools import pairwise

import pytest
import torch
from pir.envs.countdown.rules import Countdown
from pir.envs.maze.rules import Maze
from pir.envs.queens.rules import Queens
from tensordict import TensorDict

from pir.models.trm import TRM
from pir.rollout import begin, improve
from pir.training.filling import refill
from pir.training.state import lanes_of
from tests.objective_steps import take_steps


def make():
    torch.manual_seed(0)
    puzzle = Countdown()
    return TRM(puzzle, hidden_size=16, heads=2, dtype="float32"), puzzle


def test_steps_chain():
    reasoner, puzzle = make()
    puzzles = puzzle.sample(6, "train", seed=0)
    lanes = begin(reasoner, puzzle, puzzles)
    steps = take_steps(reasoner, puzzle, lanes, 3)
    assert [step.k.tolist() for step in steps] == [[1] * 6, [2] * 6, [3] * 6]
    for earlier, later in pairwise(steps):
        assert torch.equal(earlier.after.logits, later.before.logits)
        assert torch.equal(earlier.after.score, later.before.score)
    for step in steps:
        assert not step.before.logits.requires_grad
        assert step.after.logits.requires_grad
        assert (step.after.answer[:, :4] == puzzles["question"][:, :4]).all()
        verdict = puzzle.verify(puzzles["question"], step.after.answer)
        assert torch.equal(verdict.score, step.after.score)


@pytest.mark.parametrize("mixer", ["attention", "mlp", "conv", "candidates"])
def test_no_lanes_take_a_step(mixer):
    puzzle = Maze(7, 7) if mixer == "conv" else Queens()
    reasoner = TRM(puzzle, hidden_size=16, heads=2, mixer=mixer)
    none = begin(reasoner, puzzle, puzzle.sample(1, "train", seed=0)[:0])
    lanes, step = improve(reasoner, puzzle, none)
    assert step.after.logits.shape == (0, *puzzle.slot_mask.shape)
    assert len(lanes.now.answer) == 0


def test_gradient_reaches_back_one_step_only():
    reasoner, puzzle = make()
    lanes = begin(reasoner, puzzle, puzzle.sample(3, "train", seed=0))
    for _ in range(2):
        lanes, step = improve(reasoner, puzzle, lanes)
        assert step.after.state["y"].requires_grad
        assert not lanes.now.state["y"].requires_grad


def test_refilled_lanes_start_anew_and_others_go_on():
    reasoner, puzzle = make()
    whole = begin(reasoner, puzzle, puzzle.sample(4, "train", seed=0))
    for _ in range(2):
        whole, _ = improve(reasoner, puzzle, whole)
    whole.finished = torch.tensor([True, False, False, True])
    fresh = begin(reasoner, puzzle, puzzle.sample(2, "train", seed=1))
    mixed = refill(whole, fresh)
    assert mixed.k.tolist() == [0, 2, 2, 0]
    assert not mixed.finished.any()
    step, alone, on = (improve(reasoner, puzzle, lanes)[1] for lanes in (mixed, fresh, whole))
    logits = step.after.logits
    assert torch.allclose(logits[[0, 3]], alone.after.logits, atol=1e-5)
    assert torch.allclose(logits[[1, 2]], on.after.logits[[1, 2]], atol=1e-5)


def test_lanes_survive_a_checkpoint():
    reasoner, puzzle = make()
    lanes = begin(reasoner, puzzle, puzzle.sample(4, "train", seed=0))
    lanes, _ = improve(reasoner, puzzle, lanes)
    again = lanes_of(lanes.to_dict())
    one, other = (improve(reasoner, puzzle, each)[1] for each in (lanes, again))
    assert torch.equal(one.after.logits, other.after.logits)


def test_solving_needs_no_label():
    reasoner, puzzle = make()
    question = puzzle.parse("3 7 8 = 29")[None]
    lanes = begin(reasoner, puzzle, TensorDict({"question": question}, batch_size=[1]))
    assert len(take_steps(reasoner, puzzle, lanes, 2)) == 2
