"""The second device: where tensors of two devices meet, it raises; and everything runs on it."""

import pytest
import torch

from pir.laws.second_device import SECOND, OtherRounding, SecondDevice

MIXES = {
    "arithmetic": lambda here, there: here + there,
    "where": lambda here, there: torch.where(there > 0, here, there),
    "stack": lambda here, there: torch.stack([here, there]),
    "in place": lambda here, there: there.add_(here),
    "gather": lambda here, there: there.gather(0, torch.zeros(3, dtype=torch.int64)),
    "an index from elsewhere": lambda here, there: here[there.long()],
    "an indexed write": lambda here, there: there.__setitem__(torch.tensor([0, 1, 2]), here),
    "a mask": lambda here, there: here.masked_fill(there > 0, 0),
    "a function": lambda here, there: torch.nn.functional.mse_loss(here, there),
    "a module": lambda here, there: torch.nn.Linear(3, 3)(there),
    "an array": lambda here, there: there.numpy(),
    "a generator": lambda here, there: torch.rand(3, generator=torch.Generator(), device=SECOND),
    "a generator of draws": lambda here, there: there.multinomial(1, generator=torch.Generator()),
}
FREE = {
    "a number": lambda here, there: there * torch.tensor(2.0),
    "an index from the CPU": lambda here, there: there[torch.tensor([0, 2])],
    "a copy": lambda here, there: there.copy_(here),
    "a slice": lambda here, there: there.__setitem__(slice(0, 3), here),
    "a generator": lambda here, there: torch.rand(
        3, generator=torch.Generator(SECOND).manual_seed(0), device=SECOND
    ),
    "an array of the CPU": lambda here, there: there.cpu().numpy() + there.numpy(force=True),
    "whole numbers": lambda here, there: there.to(torch.int64).to("cpu", torch.uint8) + here,
    "the place of another": lambda here, there: here.to(there) + there.to(there.dtype),
}


def both():
    return torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0], device=SECOND)


@pytest.mark.parametrize("mix", MIXES)
def test_tensors_of_two_devices_may_not_meet(mix):
    with SecondDevice(), pytest.raises((RuntimeError, TypeError)) as error:
        MIXES[mix](*both())
    assert "xpu:0" in str(error.value)


@pytest.mark.parametrize("use", FREE)
def test_what_a_gpu_allows_is_allowed(use):
    with SecondDevice():
        FREE[use](*both())


def test_results_keep_device_and_values():
    with SecondDevice():
        here, there = both()
        made = [
            *(there * 2, there.sum(), there[1], there.unbind()[0], there.max(0).indices),
            *(torch.zeros_like(there), there.new_ones(2), torch.arange(3, device=there.device)),
            *(torch.stack([there, there]), torch.cat([there]), next(iter(there)), there > 1),
        ]
        assert all(tensor.device == SECOND for tensor in made)
        moved = there.cpu()
        moved[0] = 7.0
        assert (moved.device.type, there.tolist()) == ("cpu", [1.0, 2.0, 3.0])
        assert here.to(SECOND).add_(1).device == SECOND
        assert here.tolist() == [1.0, 2.0, 3.0]


def test_a_module_learns_there():
    torch.manual_seed(0)
    with SecondDevice():
        model = torch.nn.Linear(3, 1).to(SECOND)
        assert all(p.device == SECOND and p.requires_grad for p in model.parameters())
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
        losses = []
        for _ in range(20):
            loss = (model(torch.ones(4, 3, device=SECOND)) - 1).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0] / 10


@pytest.mark.parametrize("count", [4, 16, 49, 81, 243, 768])
def test_no_quotient_of_equal_numbers_is_one_with_other_rounding(count):
    whole, ones = torch.tensor([count]), torch.ones(1, count)
    quotients = [
        lambda: whole / count,
        lambda: whole / whole,
        lambda: whole * (1 / whole.float()),
        lambda: ones.mean(1),
        lambda: (ones / count).sum(1),
        lambda: (ones / count) @ ones[0],
    ]
    for quotient in quotients:
        assert quotient().item() == pytest.approx(1, abs=1e-5)
        with OtherRounding():
            assert quotient().item() != 1
    with OtherRounding():
        assert (ones.sum(1) == count).all()
        assert (whole // count == 1).all()


FRACTIONS = torch.tensor([0.3, 0.7, 2.25, 5.5])
COMPUTED = {
    "exp": torch.exp,
    "log": torch.log,
    "root": torch.sqrt,
    "root in place": lambda x: x.clone().sqrt_(),
    "power": lambda x: x**0.3,
    "sine": torch.sin,
    "softmax": lambda x: x.softmax(0),
    "mean": torch.mean,
    "deviation": torch.std,
    "norm": torch.linalg.vector_norm,
    "sum": torch.sum,
    "sum of shares": lambda x: torch.full((2, 4), 0.25).sum(1),
    "product": lambda x: x[:2] * x[2:],
    "matrix product": lambda x: x[None] @ x[:, None],
    "of whole numbers": lambda x: torch.arange(2, 5).log(),
    "of double precision": lambda x: x.double().exp(),
}
EXACT = {
    "choices": lambda x: torch.where(x > 1, x, 0.5).clamp(0.4, 2).maximum(x),
    "moves": lambda x: torch.cat([x, x.flip(0)]).view(2, 4).gather(1, torch.zeros(2, 1).long()),
    "fillings": lambda x: torch.nn.functional.pad(x.masked_fill(x > 5, 1), (1, 1)),
    "order": lambda x: x.sort(descending=True).values,
    "rounding": lambda x: torch.stack([x.round(), x.floor(), x.ceil(), x.trunc(), -x, x.abs()]),
    "counts": lambda x: (x > 1).float().sum() * 3 - 1,
    "matrix products of counts": lambda x: torch.ones(2, 3) @ torch.ones(3, 2),
    "squares": lambda x: torch.arange(4.0) ** 2,
    "new values": lambda x: torch.full((3,), 0.1),
    "nothing and no end": lambda x: torch.tensor([0.0, 1.0]).log(),
}


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("name", COMPUTED)
def test_what_devices_round_comes_out_otherwise(name, up):
    usual = COMPUTED[name](FRACTIONS)
    with OtherRounding(up):
        other = COMPUTED[name](FRACTIONS)
    assert (other.abs() > usual.abs()).all() if up else (other.abs() < usual.abs()).all()
    assert torch.allclose(usual, other, rtol=1e-6)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("name", EXACT)
def test_what_is_exact_on_all_devices_stays(name, up):
    usual = EXACT[name](FRACTIONS)
    with OtherRounding(up):
        assert torch.equal(EXACT[name](FRACTIONS), usual)
