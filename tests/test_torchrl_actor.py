"""A reasoner under TorchRL's own collector, advantages and loss."""

import importlib.util
from pathlib import Path

import pytest
import torch
from pir.envs.countdown import Countdown
from pir.envs.views.torchrl_actor import actor_and_critic, with_latents
from pir.envs.views.torchrl_view import PuzzleEnv
from torchrl.objectives.value import GAE

from pir.errors import UserError
from pir.models.trm import TRM
from pir.objectives.episodes import generalized_advantages, rewards
from pir.rollout import begin, improve, stack

# torchrl's, of its own classes, when its collectors are imported
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROOT = Path(__file__).parents[1]


@pytest.fixture
def puzzle():
    return Countdown()


def make_model(puzzle, **options):
    torch.manual_seed(0)
    options = {"written_answer": True, "value_head": True, "dtype": "float32"} | options
    model = TRM(puzzle, hidden_size=16, heads=2, **options)
    if model.written is not None:
        torch.nn.init.normal_(model.written.weight)  # 0 at the start: what is read has no effect
    if model.value_head is not None:
        torch.nn.init.normal_(model.value_head.weight)
    return model


def collected(puzzle, model, frames=24):
    from torchrl.collectors import Collector

    env = with_latents(PuzzleEnv(puzzle, 4, horizon=3, seed=5), model)
    actor, critic = actor_and_critic(model, puzzle)
    collector = Collector(
        env,
        actor,
        frames_per_batch=frames,
        total_frames=frames,
        auto_register_policy_transforms=False,
    )
    (batch,) = list(collector)
    collector.shutdown()
    return batch, actor, critic


def test_a_collector_takes_the_steps_that_training_takes(puzzle, monkeypatch):
    """Two episodes of 4 rows: policies, rewards, values and advantages are those of ours."""
    model = make_model(puzzle)
    batch, _, critic = collected(puzzle, model)
    GAE(gamma=0.9, lmbda=0.7, value_network=critic)(batch)
    for episode in (batch[:, :3], batch[:, 3:]):
        drawn = iter(episode["next", "answer"].unbind(1))
        monkeypatch.setattr("pir.rollout.sample_answers", lambda *_, it=drawn: next(it)[:, None])
        puzzles = puzzle.sample(4, "train", seed=1)
        puzzles["question"] = episode["question"][:, 0]
        lanes, steps = begin(model, puzzle, puzzles), []
        for _ in range(3):
            lanes, step = improve(model, puzzle, lanes, sampled=True)
            steps.append(step)
        rollout = stack(steps).detach()
        for k in range(3):
            assert torch.allclose(rollout.after.logits[k], episode["logits"][:, k], atol=1e-4)
        gained = rewards(rollout)
        assert torch.allclose(gained, episode["next", "reward"][..., 0].T, atol=1e-6)
        ours = rollout.after.value - rollout.before.score
        assert torch.allclose(ours, episode["state_value"][..., 0].T, atol=1e-5)
        expected = generalized_advantages(gained, ours, 0.9, 0.7)
        assert torch.allclose(episode["advantage"][..., 0].T, expected, atol=1e-5)


def test_an_answer_has_the_probability_of_its_written_cells(puzzle):
    batch, _, _ = collected(puzzle, make_model(puzzle), frames=12)
    per_cell = batch["logits"].log_softmax(-1).gather(-1, batch["action"].long()[..., None])[..., 0]
    expected = torch.where(batch["written"], per_cell, 0.0).sum(-1)
    assert torch.allclose(batch["action_log_prob"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"written_answer": False}, "written_answer=True"), ({"value_head": False}, "value_head")],
)
def test_a_reasoner_that_lacks_something_is_refused(puzzle, options, message):
    with pytest.raises(UserError, match=message):
        actor_and_critic(make_model(puzzle, **options), puzzle)


def test_the_example_runs(capsys):
    spec = importlib.util.spec_from_file_location("example", ROOT / "examples/torchrl_ppo.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    solved = example.main(batches=2, rows=8)
    assert 0 <= solved <= 1
    assert "step 3: solved" in capsys.readouterr().out


@pytest.mark.slow
def test_the_example_learns():
    """Random answers solve 2.3 %."""
    spec = importlib.util.spec_from_file_location("example", ROOT / "examples/torchrl_ppo.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    assert example.main(minutes=10, batches=60) > 0.15


def test_what_the_data_do_not_hold_is_refused(puzzle):
    from pir.models.recurrent_depth import RecurrentDepth

    with pytest.raises(UserError, match="reads own_answer"):
        actor_and_critic(make_model(puzzle, reads_own_answer=True), puzzle)
    model = RecurrentDepth(puzzle, hidden_size=16, heads=2, written_answer=True, value_head=True)
    with pytest.raises(UserError, match="draws its start"):
        actor_and_critic(model, puzzle)
