"""The episode of revised answers: the same as in the environment, and its laws."""

import torch
from pir.envs.views.episode import Episode
from pir.envs.views.torchrl_view import PuzzleEnv
from tensordict import TensorDict
from torchrl.objectives.value.functional import generalized_advantage_estimate

from pir.objectives import (
    PPO,
)
from pir.objectives.episodes import discounted_sums, generalized_advantages, rewards
from pir.rollout import replay, stack
from tests.objective_steps import (
    make_episodes,
    make_model,
    make_rollout,
    small_puzzle,
)

puzzle = small_puzzle


def test_a_rollout_is_an_episode_of_the_environment(puzzle):
    """The same answers in the TorchRL environment: the same observations and rewards."""
    rollout = stack(make_episodes(puzzle, PPO(), 4))
    question = rollout.puzzles["question"][0]
    env = PuzzleEnv(puzzle, 4, horizon=4)
    at = env.reset(TensorDict({"question": question}, batch_size=[4]), set_state=True)
    for step in rollout.unbind(0):
        assert torch.equal(step.before.answer, at["answer"])
        assert torch.equal(step.condition["written_answer"], at["answer"])
        assert torch.equal(step.before.score, at["score"][:, 0])
        at = env.step(at.set("action", step.after.answer))["next"]
        assert torch.allclose(rewards(step[None])[0], at["reward"][:, 0], atol=1e-6)
    assert at["done"].all()
    assert len({tuple(row) for row in rollout.after.answer.flatten(0, 1).tolist()}) > 4


def test_rewards_telescope(puzzle):
    rollout = stack(make_episodes(puzzle, PPO(), 4))
    question = rollout.puzzles["question"][0]
    first = puzzle.verify(question, question).score
    last = puzzle.verify(question, rollout.after.answer[-1]).score
    gained = rewards(rollout)
    assert torch.allclose(gained.sum(0), last - first, atol=1e-6)
    assert torch.allclose(discounted_sums(gained)[0], last - first, atol=1e-6)
    assert gained.abs().max() > 0


def test_to_keep_the_answer_earns_nothing(puzzle):
    episode = Episode(puzzle)
    puzzles = puzzle.sample(8, "train", seed=1)
    for answer in (puzzles["question"], puzzles["solution"]):
        state = episode.begin(puzzles["question"], answer)
        _, reward = episode.revise(state, state.answer)
        assert torch.equal(reward, torch.zeros(8))


def test_the_model_reads_the_answer_that_was_drawn(puzzle):
    """Another answer leads elsewhere, once the embedding is no longer 0 as at the start."""
    model = make_model(puzzle, written_answer=True)
    steps = make_rollout(puzzle, 2, PPO(), model=model)
    other = steps[1].condition["written_answer"].flip(0)
    assert torch.equal(replay(model, steps[1], written_answer=other).logits, steps[1].after.logits)
    torch.nn.init.normal_(model.written.weight)
    here = replay(model, steps[1]).logits
    assert not torch.equal(here, replay(model, steps[1], written_answer=other).logits)


def test_returns_and_advantages_by_torchrl():
    torch.manual_seed(0)
    reward, values = torch.randn(5, 3), torch.randn(5, 3)
    following = torch.cat([values[1:], torch.zeros(1, 3)])
    done = torch.zeros(5, 3, dtype=torch.bool)
    done[-1] = True
    columns = [x[..., None] for x in (values, following, reward, done)]
    expected, _ = generalized_advantage_estimate(0.9, 0.7, *columns, time_dim=0)
    ours = generalized_advantages(reward, values, 0.9, 0.7)
    assert torch.allclose(ours, expected[..., 0], atol=1e-6)
