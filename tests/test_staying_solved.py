"""What keeps right answers right: late starts, a running average, damping, noise, a selector."""

import pytest
import torch
from pir.envs.countdown.rules import Countdown

from pir.models.network import rms_norm
from pir.models.running_average import RunningAverage
from pir.models.trm import TRM
from tests.small_reasoners import SMALL, run

CPU = torch.device("cpu")


def make(puzzle=None, **options):
    torch.manual_seed(0)
    puzzle = puzzle or Countdown()
    return TRM(puzzle, **(SMALL | options)).eval(), puzzle


# ---------------------------------------------------------------- the running average


def trained_average(width, scale=1.0):
    torch.manual_seed(1)
    average = RunningAverage(width)
    with torch.no_grad():
        average.direction.copy_(scale * torch.randn(width))
        average.decay.fill_(-0.7)
    return average


def decay_of(average):
    return float((average.decay.detach() + torch.tensor(0.9).logit()).sigmoid())


def test_running_average_is_the_quotient_of_its_sums():
    average = trained_average(6)
    proposals = torch.randn(40, 2, 3, 6)
    h, weight = torch.randn(2, 3, 6), torch.zeros(2, 3, 1)
    beta = decay_of(average)
    q = average.direction.detach().double()
    numerator = denominator = 0.0
    for z in proposals:
        with torch.no_grad():
            h, weight = average(h, weight, z)
        z = z.double()
        e = torch.exp((rms_norm(z) * q).sum(-1, keepdim=True))
        numerator, denominator = beta * numerator + e * z, beta * denominator + e
        torch.testing.assert_close(h.double(), numerator / denominator, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(weight.double(), denominator.log1p(), atol=1e-5, rtol=1e-5)


def test_it_begins_as_a_plain_average_with_decay():
    average = RunningAverage(4)
    z = torch.randn(3, 1, 1, 4)
    h, weight = torch.randn(1, 1, 4), torch.zeros(1, 1, 1)
    with torch.no_grad():
        for proposal in z:
            h, weight = average(h, weight, proposal)
    torch.testing.assert_close(h, (0.81 * z[0] + 0.9 * z[1] + z[2]) / 2.71)
    assert float(weight) == pytest.approx(torch.tensor(3.71).log().item())


def test_scores_of_any_size_and_noise_below_zero_stay_finite():
    average = trained_average(64, scale=40.0)
    h, weight = torch.zeros(2, 3, 64), torch.full((2, 3, 1), -0.3, requires_grad=True)
    first = torch.randn(2, 3, 64)
    h, weight = average(h, weight, first)
    assert torch.equal(h, first)  # nothing was in it
    for _ in range(20):
        h, weight = average(h, weight, torch.randn(2, 3, 64))
    assert h.isfinite().all()
    assert (weight > 0).all()
    assert weight.isfinite().all()
    (h.sum() + weight.sum()).backward()
    assert average.direction.grad.isfinite().all()
    assert average.decay.grad.isfinite()


def test_average_keeps_the_dtype_of_the_latent():
    model, puzzle = make(running_average=True, dtype="bfloat16")
    state = run(model, puzzle.sample(2, "train", seed=0)["question"], 2)
    assert state["y"].dtype == torch.bfloat16
    assert state["y_weight"].dtype == torch.float32
    assert state["y_weight"].shape == (2, puzzle.length, 1)


@pytest.mark.parametrize("latents", [1, 0])
def test_a_trm_averages_what_its_cycles_propose(latents):
    """Against a step written out, over two steps of two cycles; at first as without average."""
    options = {"cycles": 2, "latents": latents, "latent_steps": 2}
    model, puzzle = make(running_average=True, **options)
    plain, _ = make(**options)
    assert [n for n in model.state_dict() if n not in plain.state_dict()] == [
        "average.direction", "average.decay",
    ]  # fmt: skip
    plain.load_state_dict(model.state_dict(), strict=False)
    untouched, _ = make(**options)
    for own, other in zip(plain.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(own, other)
    model.average = trained_average(16)
    question = puzzle.sample(3, "train", seed=0)["question"]
    beta = decay_of(model.average)
    with torch.no_grad():
        x, state = model.embed(question), model.start(question)
        y, z = state["y"], state["z"] if latents else 0.0
        numerator = denominator = 0.0
        for _ in range(4):
            if latents:
                for _ in range(2):
                    z = model.f(x + y + z)
                proposal = model.f(y + z)
            else:
                proposal = y
                for _ in range(3):
                    proposal = model.f(x + proposal)
            e = torch.exp((rms_norm(proposal) * model.average.direction).sum(-1, keepdim=True))
            numerator, denominator = beta * numerator + e * proposal, beta * denominator + e
            y = numerator / denominator
        found = run(model, question, 2)
    torch.testing.assert_close(found["y"], y, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found["y_weight"], denominator.log1p(), atol=1e-4, rtol=1e-4)
    model.cycles = plain.cycles = 1
    assert torch.equal(run(model, question, 1)["y"], run(plain, question, 1)["y"])
