"""The identities behind the ledger, exact to 1e-6 in float64."""

import pytest
import torch

from pir.ledger.guidance import (
    Region,
    advantage,
    best_weight,
    divergence,
    guided_log_policy,
    log_prob_gain,
    margin,
    region,
)

EXACT = {"atol": 1e-6, "rtol": 0.0}


@pytest.fixture
def step():
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.1, 1.0, 4.0], dtype=torch.float64)[:, None, None]
    u = scale * torch.randn(3, 400, 7, generator=generator, dtype=torch.float64)
    c = u + scale * torch.randn(3, 400, 7, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 7, (3, 400), generator=generator)
    return u.log_softmax(-1), c.log_softmax(-1), y


def curvature(reference, improved, w=1.0):
    """Returns Var_{p_w}[A] = -d2 log p_w(y*) / dw2, which no token changes (Prop. 4.1)."""
    guided = guided_log_policy(reference, improved, w).exp()
    shift = advantage(reference, improved)
    mean = (guided * shift).sum(-1, keepdim=True)
    return (guided * (shift - mean) ** 2).sum(-1)


def close(one, other):
    torch.testing.assert_close(one, other, **EXACT)


def test_guided_policies_run_from_reference_to_improved(step):
    u, c, _ = step
    close(guided_log_policy(u, c, 0.0), u.log_softmax(-1))
    close(guided_log_policy(u, c, 1.0), c.log_softmax(-1))
    product = u.softmax(-1) ** (1 - 2.5) * c.softmax(-1) ** 2.5
    close(guided_log_policy(u, c, 2.5).exp(), product / product.sum(-1, keepdim=True))
    each = torch.linspace(-1, 3, 400, dtype=torch.float64).expand(3, 400)
    close(
        guided_log_policy(u, c, each)[:, 7], guided_log_policy(u[:, 7], c[:, 7], float(each[0, 7]))
    )


def test_mean_advantages_are_divergences(step):
    u, c, _ = step
    shift = advantage(u, c)
    close((u.softmax(-1) * shift).sum(-1), -divergence(u, c))
    close((c.softmax(-1) * shift).sum(-1), divergence(c, u))


def test_margins_at_the_ends(step):
    u, c, y = step
    close(margin(u, c, y, 0.0), log_prob_gain(u, c, y) + divergence(u, c))
    close(margin(u, c, y, 1.0), log_prob_gain(u, c, y) - divergence(c, u))


def test_gain_is_the_change_of_log_probability(step):
    u, c, y = step
    log_probs = [p.log_softmax(-1).gather(-1, y[..., None]).squeeze(-1) for p in (u, c)]
    close(log_prob_gain(u, c, y), log_probs[1] - log_probs[0])


@pytest.mark.parametrize("w", [-0.5, 0.0, 0.3, 1.0, 2.0])
def test_margin_and_curvature_are_derivatives(step, w):
    u, c, y = step
    weight = torch.full(y.shape, w, dtype=torch.float64, requires_grad=True)
    log_prob = guided_log_policy(u, c, weight).gather(-1, y[..., None]).sum()
    (slope,) = torch.autograd.grad(log_prob, weight, create_graph=True)
    close(slope, margin(u, c, y, w))
    (second,) = torch.autograd.grad(slope.sum(), weight)
    close(second, -curvature(u, c, w))
    assert (curvature(u, c, w) >= 0).all()


def test_regions_say_where_the_best_weight_lies(step):
    u, c, y = step
    found = region(log_prob_gain(u, c, y), divergence(c, u), divergence(u, c))
    best = best_weight(u, c, y, low=-20.0, high=20.0)
    sure = 1e-6
    assert set(found.unique().tolist()) == set(Region)
    assert (best[found == Region.HARMFUL] <= sure).all()
    inside = (found == Region.OVERSHOOT) | (found == Region.SIZED_RIGHT)
    assert (best[inside] > -sure).all()
    assert (best[inside] < 1 + sure).all()
    assert (best[found == Region.UNDER_SIZED] > 1 - sure).all()
    lost = log_prob_gain(u, c, y) < 0
    assert torch.equal(lost, (found == Region.HARMFUL) | (found == Region.OVERSHOOT))


def test_best_weight_beats_a_fine_grid(step):
    u, c, y = (part[1] for part in step)
    best = best_weight(u, c, y, low=0.0, high=3.0)

    def log_prob(w):
        return guided_log_policy(u, c, w).gather(-1, y[..., None]).squeeze(-1)

    assert ((best >= 0) & (best <= 3)).all()
    assert ((best < 0.001).any(), (best > 2.999).any()) == (True, True)
    for w in torch.linspace(0, 3, 61).tolist():
        assert (log_prob(best) >= log_prob(w) - 1e-9).all()


def test_a_step_that_moves_nothing_has_no_slope(step):
    u, _, y = step
    for w in (0.0, 1.0, 5.0):
        close(margin(u, u, y, w), torch.zeros(3, 400, dtype=torch.float64))
        close(curvature(u, u, w), torch.zeros(3, 400, dtype=torch.float64))
