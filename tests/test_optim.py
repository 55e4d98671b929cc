"""Learning rate, weight average and optimizer by hand."""

from itertools import pairwise

import pytest
import torch

from pir.training.optim import Averaged, Muon, MuonAdamW, learning_rate_factor


def test_learning_rate_curve():
    rates = [learning_rate_factor(step, 10, 110, 0.1) for step in range(200)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == rates[199] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_average_by_hand():
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 2)
    average = Averaged(module, 0.9)
    expected = None
    for step in range(30):
        with torch.no_grad():
            module.weight.normal_()
        average.update_parameters(module)
        if expected is None:
            expected = module.weight.clone()
        else:
            decay = min(0.9, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * module.weight
    assert torch.allclose(average.module.weight, expected, atol=1e-6)


def test_muon_takes_the_matrices_of_the_blocks():
    model = torch.nn.ModuleDict(
        {"blocks": torch.nn.Linear(4, 3), "head": torch.nn.Linear(3, 2, bias=False)}
    )
    optimizer = MuonAdamW(list(model.named_parameters()))
    assert [p.shape for g in optimizer.muon.param_groups for p in g["params"]] == [(3, 4)]
    assert len([p for g in optimizer.adamw.param_groups for p in g["params"]]) == 2
    before = {name: p.clone() for name, p in model.named_parameters()}
    model["head"](model["blocks"](torch.randn(5, 4))).sum().backward()
    optimizer.step()
    assert all((p != before[name]).any() for name, p in model.named_parameters())


def test_muon_side_by_side_is_torchs_muon():
    """Settings, state and, but for rounding, weights."""

    def weights():
        torch.manual_seed(1)
        shapes = [(12, 8), (8, 12), (12, 8), (8, 8), (12, 8)]
        return [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]

    ours, torchs = weights(), weights()
    settings = {"lr": 0.02, "weight_decay": 0.3, "momentum": 0.9}
    optimizers = Muon(ours, **settings), torch.optim.Muon(torchs, **settings)
    for _ in range(4):
        for a, b in zip(ours, torchs, strict=True):
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.clone()
        ours[3].grad = torchs[3].grad = None  # one that a loss does not reach
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(ours, torchs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3)
    states = [optimizer.state_dict() for optimizer in optimizers]
    torch.testing.assert_close(states[0]["state"], states[1]["state"])
    assert states[0]["param_groups"] == states[1]["param_groups"]
    assert not torch.equal(ours[0], weights()[0])
