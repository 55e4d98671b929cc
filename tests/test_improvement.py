"""The loop and the lanes it runs on."""

from itertools import pairwise

import torch
from pir.envs.countdown import Countdown
from tensordict import TensorDict

from pir.improvement import Lanes, improvement_steps
from pir.models.trm import TRM


def make():
    torch.manual_seed(0)
    puzzle = Countdown()
    return TRM(puzzle, hidden_size=16, heads=2, dtype="float32"), puzzle


def test_steps_chain():
    reasoner, puzzle = make()
    puzzles = puzzle.sample(6, "train", seed=0)
    lanes = Lanes.begin(reasoner, puzzle, puzzles)
    steps = list(improvement_steps(reasoner, puzzle, lanes, 3))
    assert [step.k.tolist() for step in steps] == [[1] * 6, [2] * 6, [3] * 6]
    for earlier, later in pairwise(steps):
        assert torch.equal(earlier.improved.logits, later.reference)
        assert torch.equal(earlier.after.score, later.before.score)
    for step in steps:
        assert not step.reference.requires_grad
        assert step.improved.logits.requires_grad
        assert (step.answer[:, :4] == puzzles["question"][:, :4]).all()
        verdict = puzzle.verify(puzzles["question"], step.answer)
        assert torch.equal(verdict.score, step.after.score)


def test_gradient_reaches_back_one_step_only():
    reasoner, puzzle = make()
    lanes = Lanes.begin(reasoner, puzzle, puzzle.sample(3, "train", seed=0))
    for _ in improvement_steps(reasoner, puzzle, lanes, 2):
        assert not lanes.state["y"].requires_grad


def test_refilled_lanes_start_anew_and_others_go_on():
    reasoner, puzzle = make()
    whole = Lanes.begin(reasoner, puzzle, puzzle.sample(4, "train", seed=0))
    list(improvement_steps(reasoner, puzzle, whole, 2))
    whole.finished = torch.tensor([True, False, False, True])
    fresh = Lanes.begin(reasoner, puzzle, puzzle.sample(2, "train", seed=1))
    mixed = whole.refill(fresh)
    assert mixed.k.tolist() == [0, 2, 2, 0]
    assert not mixed.finished.any()
    (step,) = improvement_steps(reasoner, puzzle, mixed, 1)
    (alone,) = improvement_steps(reasoner, puzzle, fresh, 1)
    (on,) = improvement_steps(reasoner, puzzle, whole, 1)
    logits = step.improved.logits
    assert torch.allclose(logits[[0, 3]], alone.improved.logits, atol=1e-5)
    assert torch.allclose(logits[[1, 2]], on.improved.logits[[1, 2]], atol=1e-5)


def test_lanes_survive_a_checkpoint():
    reasoner, puzzle = make()
    lanes = Lanes.begin(reasoner, puzzle, puzzle.sample(4, "train", seed=0))
    list(improvement_steps(reasoner, puzzle, lanes, 1))
    again = Lanes.from_state_dict(lanes.state_dict())
    (one,) = improvement_steps(reasoner, puzzle, lanes, 1)
    (other,) = improvement_steps(reasoner, puzzle, again, 1)
    assert torch.equal(one.improved.logits, other.improved.logits)


def test_solving_needs_no_label():
    reasoner, puzzle = make()
    question = puzzle.parse("3 7 8 = 29")[None]
    lanes = Lanes.begin(reasoner, puzzle, TensorDict({"question": question}, batch_size=[1]))
    assert len(list(improvement_steps(reasoner, puzzle, lanes, 2))) == 2
