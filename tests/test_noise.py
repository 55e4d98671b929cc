"""Random numbers that belong to puzzles."""

import math
from types import SimpleNamespace

import pytest
import torch
from pir.envs.countdown.rules import Countdown

from pir import noise
from pir.noise import by_puzzle, normal, tokens, uniform
from pir.rollout import choices, draw_tokens
from pir.runs.checkpoint_content import KINDS
from pir.training.state import RandomState

CPU = torch.device("cpu")
MASK = 2**64 - 1


@pytest.fixture(scope="module")
def question():
    return Countdown(6).sample(400, "test", seed=0)["question"]


def mixed(word):
    """Splitmix64 in whole numbers of any size."""
    word = (word + 0x9E3779B97F4A7C15) & MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
    return word ^ (word >> 31)


def test_mixing_is_splitmix64():
    words = torch.tensor([0, 1, -1, 2**62, -(2**63), 12345678901])
    expected = [(mixed(word & MASK) >> 41) + 0.5 for word in words.tolist()]
    assert (noise.uniform_of(words).double() * 2**23).tolist() == expected


def test_numbers_depend_on_seed_question_purpose_and_step_alone(question):
    step = torch.full((400,), 2)
    with by_puzzle(0, CPU):
        whole = uniform(question, "a", 3, 5, k=step)
        order = torch.randperm(400)
        assert torch.equal(uniform(question[order], "a", 3, 5, k=step), whole[order])
        assert torch.equal(uniform(question[7:8], "a", 3, 5, k=step[:1]), whole[7:8])
        others = [uniform(question, "b", 3, 5, k=step), uniform(question, "a", 3, 5),
                  uniform(question, "a", 3, 5, k=step + 1)]  # fmt: skip
    with by_puzzle(1, CPU):
        others.append(uniform(question, "a", 3, 5, k=step))
    for other in others:
        correlation = torch.corrcoef(torch.stack([whole.flatten(), other.flatten()]))[0, 1]
        assert abs(correlation) < 5 / math.sqrt(whole.numel())
    across = torch.corrcoef(whole.flatten(1).T)
    assert (across - torch.eye(15)).abs().max() < 5 / math.sqrt(400)


def test_distributions(question):
    """Even numbers, cut normal ones, and tokens as often as a policy says, within 5 deviations."""
    policy = torch.tensor([0.0, 0.5, 0.2, 0.0, 0.3, 0.0]).expand(400, 8, 6)
    for context in (by_puzzle(3, CPU), torch.random.fork_rng([])):
        with context:
            even = uniform(question, "even", 100)
            bell = normal(question, "bell", 100, deviation=2.0, cut=2.0)
            drawn = tokens(question, "drawn", policy, 20)
        assert 0 < even.min() < 1e-3
        assert 1 - 1e-3 < even.max() < 1
        shares = even.flatten().histc(10, 0, 1) / even.numel()
        assert (shares - 0.1).abs().max() < 5 * 0.3 / math.sqrt(even.numel())
        assert bell.abs().max() <= 4
        # of a normal distribution cut at two deviations: 1 - 4 phi(2) / (2 Phi(2) - 1)
        assert bell.std() == pytest.approx(2 * math.sqrt(0.77374), rel=0.02)
        assert abs(bell.mean()) < 0.05
        assert drawn.shape == (400, 8, 20)
        often = drawn.flatten().bincount(minlength=6) / drawn.numel()
        assert (often - policy[0, 0]).abs().max() < 5 * 0.5 / math.sqrt(drawn.numel())
        assert often[[0, 3, 5]].sum() == 0


def test_no_token_without_a_chance_is_drawn_where_rounding_loses_some():
    question = torch.arange(2000, dtype=torch.int64)[:, None]
    policy = torch.full((2000, 1, 12), 1 / 11)
    policy[..., [0, 11]] = 0.0
    policy[..., 1] = 1e-30
    with by_puzzle(0, CPU):
        drawn = tokens(question, "drawn", policy, 500)
    assert drawn.min() >= 2
    assert drawn.max() == 10


def test_tokens_of_a_policy_that_diverged_are_tokens():
    policy = torch.tensor([[[0.2, torch.nan, 0.8], [torch.inf, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    with by_puzzle(0, CPU):
        drawn = draw_tokens(torch.zeros(1, 3, dtype=torch.int64), "drawn", policy, 300)
    assert [part.unique().tolist() for part in drawn[0]] == [[0, 1, 2], [0, 1, 2], [1]]


def test_numbers_are_made_where_the_question_is(question):
    question, step = question.to("meta"), torch.ones(400, dtype=torch.int64, device="meta")
    policy = torch.empty(*question.shape, 7, device="meta")
    for context in (by_puzzle(0, CPU), torch.random.fork_rng([])):
        with context:
            drawn = (uniform(question, "a", 3, k=step), normal(question, "a", 3),
                     tokens(question, "a", policy, 2, k=step))  # fmt: skip
        assert [part.device.type for part in drawn] == ["meta"] * 3


def test_torchs_own_stream_goes_on_as_before(question):
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    with by_puzzle(0, CPU):
        uniform(question, "a", 3)
        first = torch.rand(2)
    with by_puzzle(0, CPU):
        assert torch.equal(torch.rand(2), first)
    assert torch.equal(torch.rand(4), expected)
    torch.manual_seed(5)
    assert torch.equal(uniform(question[:2], "a", 2).flatten(), expected)


@pytest.mark.parametrize("kind", ["mps", "xpu", "cuda"])
def test_a_devices_own_stream_goes_on_as_before_too(kind, monkeypatch):
    """torch.manual_seed seeds all devices, so what `by_puzzle` seeds is put back on each kind."""
    states = [torch.tensor([7], dtype=torch.uint8)]
    device = torch.device(kind)
    module = SimpleNamespace(
        is_available=lambda: True,
        get_rng_state=lambda *_: states[-1],
        set_rng_state=lambda state, *_: states.append(state),
    )
    monkeypatch.setattr(torch, kind, module)
    monkeypatch.setattr(torch, "manual_seed", lambda seed: states.append(torch.tensor([seed])))
    with by_puzzle(3, device):
        assert states[-1].tolist() == [3]
    assert states[-1].tolist() == [7]
    kept = RandomState(device).state_dict()
    assert KINDS["random"].holds(kept)  # what a checkpoint may hold
    states.append(torch.tensor([9]))
    RandomState(device).load_state_dict(kept)
    assert states[-1].tolist() == [7]
    RandomState(torch.device("cpu")).load_state_dict(kept)  # a run that goes on elsewhere


def test_one_drawn_column_is_what_multinomial_draws():
    weights = torch.rand(50, 3, 9, generator=torch.Generator().manual_seed(0))
    weights[..., 4] = 0
    torch.manual_seed(1)
    found = choices(weights)
    torch.manual_seed(1)
    expected = weights.flatten(0, -2).multinomial(1).view(50, 3, 1)
    assert torch.equal(found, expected)
    assert 4 not in found
