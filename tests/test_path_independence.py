"""Path independence: what does not forget its start is told from what does."""

import pytest
import torch
from pir.envs.countdown.rules import Countdown

from pir.evaluation.path_independence import path_independence
from pir.models.feedforward import FeedForward
from pir.models.trm import TRM

SMALL = {"hidden_size": 16, "heads": 2, "dtype": "float32"}


def measure(model, count=20):
    puzzle = Countdown()
    return path_independence(model.eval(), puzzle, puzzle.sample(count, "test", seed=0))


class Frozen(TRM):
    """Keeps every latent as it is."""

    def step(self, x, told, latents, k):
        return {"y": latents["y"] + 0.0 * x, "z": latents["z"] + (k == 1)[:, None, None] * x}


def test_a_network_without_memory_is_independent_of_its_path():
    found = measure(FeedForward(Countdown(), **SMALL))
    assert found["alignment"] == pytest.approx(1.0, abs=1e-6)
    assert found["same_answer"] == 1.0
    assert found["puzzles"] == 20


def test_latents_that_are_kept_show_the_path():
    """z then still holds another puzzle's question, so the ends differ by what the questions do."""
    torch.manual_seed(0)
    model = Frozen(Countdown(), **SMALL).eval()
    found = measure(model)
    puzzles = Countdown().sample(20, "test", seed=0)["question"]
    with torch.no_grad():
        state = model.improve(puzzles, model.start(puzzles), torch.ones(20, dtype=torch.int64))
    ends = torch.cat([state["y"].flatten(1), state["z"].flatten(1)], 1)
    expected = torch.cosine_similarity(ends, ends.roll(1, 0), dim=1).mean()
    assert found["alignment"] == pytest.approx(float(expected), abs=1e-6)
    assert found["alignment"] < 0.99


def test_random_numbers_are_set_aside_and_one_puzzle_says_nothing():
    model = TRM(Countdown(), partial_answer=True, **SMALL)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert measure(model) == measure(model)
    assert torch.equal(torch.rand(3), expected)
    assert measure(model, count=1) == {}
