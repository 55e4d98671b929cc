"""Truncated back-propagation through time: one graph and one update per window of steps."""

import pytest
import torch

from pir.errors import UserError
from pir.objective import Objective
from pir.objectives import DeepSupervision, LastStep
from pir.rollout import replay
from tests.objective_steps import gradients
from tests.training_runs import assert_same_run, go_on, read_rows, start

OPTIONS = ("objective=truncated", "trainer.log_every=1", "trainer.eval_every=5")


def losses(run):
    return [row["loss"] for row in read_rows(run / "metrics.csv")]


def test_a_window_as_long_as_the_rollout_is_unrolled_training(tmp_path):
    rest = ["model.improvement_steps=3", "trainer.log_every=1", "trainer.max_optimizer_steps=4"]
    start(tmp_path / "truncated", "objective=truncated", *rest).train()
    start(tmp_path / "unrolled", "objective=unrolled", *rest).train()
    assert losses(tmp_path / "truncated") == losses(tmp_path / "unrolled")
    start(tmp_path / "two", "objective=truncated", "objective.backprop_steps=2", *rest).train()
    assert losses(tmp_path / "two") != losses(tmp_path / "unrolled")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["model.cycles=2", "objective=truncated"], "objective.backprop_steps=4: all cycles"),
        (["model=hrm", "optim=adamw", "objective=unrolled"], "cycles=1 \\(HRM: model.high"),
        (["model.cycles=2", "objective=truncated", "+objective.terms.p._target_=pir.objectives."
          "Progressive", "objective.backprop_steps=1", "objective.update=rollout"],
         "objective.terms.p: all cycles"),
    ],
)  # fmt: skip
def test_models_without_gradient_through_a_step_are_refused(tmp_path, options, message):
    """They would be trained step by step, to the bit, under the name of another objective."""
    with pytest.raises(UserError, match=message):
        start(tmp_path / "run", *options)


def test_windows_follow_one_another_to_the_end_of_the_rollout(tmp_path, monkeypatch):
    """Of K = 5 steps: two, two, one; the gradient goes back to the start of its window."""
    seen, used = [], Objective.losses

    def watched(self, rollout, puzzle, reasoner, optimizer_step):
        seen.append(rollout)
        ours, again = rollout[-1].after, replay(reasoner, rollout[0], len(rollout))
        assert torch.equal(ours.logits, again.logits)
        assert not rollout[0].before.state["y"].requires_grad
        parameters = [p for p in reasoner.parameters() if p.requires_grad]
        pair = [
            gradients(policy.logits.softmax(-1).square().sum(), parameters)
            for policy in (ours, again)
        ]
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*pair, strict=True))
        yield from used(self, rollout, puzzle, reasoner, optimizer_step)

    monkeypatch.setattr(Objective, "losses", watched)
    options = ["objective.backprop_steps=2", "model.improvement_steps=5", "model.dtype=float32"]
    trainer = start(tmp_path, *OPTIONS, *options, "trainer.max_optimizer_steps=5")
    trainer.train()
    assert [rollout.k[:, 0].tolist() for rollout in seen] == [[1, 2], [3, 4], [5], [1, 2], [3, 4]]
    for before, after in ((0, 1), (1, 2), (3, 4)):
        assert torch.equal(seen[before].puzzles["question"][-1], seen[after].puzzles["question"][0])
        assert torch.equal(seen[before][-1].after.state["y"], seen[after][0].before.state["y"])
    assert not torch.equal(seen[2].puzzles["question"][0], seen[3].puzzles["question"][0])
    assert trainer.progress.improvement_step == 9


def test_it_resumes_within_a_rollout_to_the_bit(tmp_path):
    options = [*OPTIONS, "objective.backprop_steps=2", "model.improvement_steps=5"]
    start(tmp_path / "whole", *options, "trainer.max_optimizer_steps=7").train()
    start(tmp_path / "parts", *options, "trainer.max_optimizer_steps=2").train()
    go_on(tmp_path / "parts", *options, "trainer.max_optimizer_steps=7").train()
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("term", "options", "message"),
    [
        (DeepSupervision, {"backprop_steps": 1}, "2 or more"),
        (DeepSupervision, {"backprop_steps": 2, "epochs": 2}, "update=rollout"),
        (LastStep, {"backprop_steps": 2}, "update=rollout"),
    ],
)
def test_what_does_not_fit_windows_is_refused(term, options, message):
    with pytest.raises(UserError, match=message):
        Objective({"a": term()}, update="window", **options)


def test_windows_need_lanes_that_start_together(tmp_path):
    with pytest.raises(UserError, match=r"update=window .* trainer\.lanes=synchronous"):
        start(tmp_path, "objective=truncated", "trainer.lanes=staggered")
