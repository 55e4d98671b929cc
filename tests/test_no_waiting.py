"""Lanes are refilled without waiting for the device."""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pir.laws.second_device import SECOND, Elsewhere
from pir.training import filling
from pir.training.optim import Updates
from tests.elsewhere import second_device
from tests.puzzles import VARIANTS
from tests.training_runs import assert_equal, start

WAITS = {
    "_local_scalar_dense",
    "equal",
    "is_nonzero",
    "item",
    "masked_select",
    "nonzero",
    "repeat_interleave",
    "_unique2",
}
"""Operations for which a CUDA device is waited for: what they return depends on values."""


class NoWaiting(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masks = name.startswith("index") and any(
            isinstance(i, torch.Tensor) and i.dtype is torch.bool
            for each in args
            for i in (each if isinstance(each, list | tuple) else [])
        )
        assert name not in WAITS, name
        assert not masks, f"{name} by a mask"
        return func(*args, **(kwargs or {}))


def by_number(lanes, fresh):
    """The finished lanes one by one."""
    rows = lanes.finished.nonzero().squeeze(-1)
    return lanes.apply(lambda old, new: old.index_copy(0, rows, new), fresh)


@pytest.mark.parametrize("kind", ["staggered", "synchronous", "halting", "ledger"])
def test_lanes_are_refilled_without_waiting(tmp_path, monkeypatch, kind):
    """How many are finished is known, or that number alone is read."""
    words = ["model.halt_head=true", "objective=deep_supervision", f"trainer.lanes={kind}"]
    trainer = start(tmp_path / "run", *words, "model.improvement_steps=3")
    refilled, inside = [], filling.refill

    def refill(lanes, fresh):
        with NoWaiting():
            mixed = inside(lanes, fresh)
        refilled.append(len(fresh.k))
        assert_equal(mixed.to_dict(), by_number(lanes, fresh).to_dict(), "lanes")
        return mixed

    counts, read = [], filling._finished

    def finished(trainer, lanes):
        if kind in ("halting", "ledger"):
            counts.append(read(trainer, lanes))
        else:
            with NoWaiting():
                counts.append(read(trainer, lanes))
        assert counts[-1] == int(lanes.finished.sum())
        return counts[-1]

    monkeypatch.setattr(filling, "refill", refill)
    monkeypatch.setattr(filling, "_finished", finished)
    for _ in range(4):
        filling.fill_lanes(trainer)
        trainer.improve_lanes()
    assert len(counts) == 3
    assert refilled == [count for count in counts if count]


def judged_on_the_device(name, monkeypatch):
    """Has a verifier judge right answers, and refuses that tensors are read by the CPU."""
    puzzle = VARIANTS[name]()
    sample = puzzle.sample(20, "test", seed=0)
    question, answer = sample["question"], sample["solution"]
    puzzle.verify(question, answer)  # copies its tables

    def waits(*_):
        raise AssertionError("read by the CPU")

    with monkeypatch.context() as patch, NoWaiting():
        for reads in ("cpu", "numpy", "__array__", "tolist", "item"):
            patch.setattr(torch.Tensor, reads, waits)
        solved = puzzle.verify(question, answer).solved
    return solved


@pytest.mark.parametrize("name", ["countdown", "countdown n=4 any subset", "sudoku9", "queens"])
def test_answers_are_judged_without_waiting(name, monkeypatch):
    assert judged_on_the_device(name, monkeypatch).all()


def test_a_verifier_that_searches_on_the_cpu_waits(monkeypatch):
    with pytest.raises(AssertionError, match="read by the CPU"):
        judged_on_the_device("maze", monkeypatch)


class NothingRead(TorchFunctionMode):
    """Refuses that what lies on the second device is read by the CPU, or used as a mask."""

    READS = ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__")

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if Elsewhere in types:
            masks = name in ("__getitem__", "__setitem__") and any(
                isinstance(i, torch.Tensor) and i.dtype is torch.bool
                for i in (args[1] if isinstance(args[1], tuple) else (args[1],))
            )
            counted = name == "repeat_interleave" and isinstance(args[1], int)
            assert counted or name not in WAITS | set(self.READS), name
            assert not masks, f"{name} by a mask"
            one = name == "multinomial" and args[1] == 1  # torch then looks at the weights itself
            assert not one, name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("objective", ["awr", "ppo", "recurrent_depth", "truncated"])
def test_lanes_are_filled_and_updated_without_waiting(tmp_path, monkeypatch, objective):
    """Between two rows: then `Updates.read` looks at the losses, and the ledger at its sums."""
    monkeypatch.setattr(Updates, "read", lambda self: None)
    words = ["device=xpu:0", f"objective={objective}", "model.improvement_steps=3"]
    with second_device():
        trainer = start(tmp_path / "run", *words)
        for _ in range(4):
            with NothingRead():
                filling.fill_lanes(trainer)
                trainer.improve_lanes()
        assert trainer.progress.optimizer_step >= 4


@pytest.mark.parametrize("read", [bool, float, lambda x: x[x > 0], lambda x: x.cpu()])
def test_that_guard_notices_too(read):
    with second_device(), pytest.raises(AssertionError), NothingRead():
        read(torch.ones(1, device=SECOND))


@pytest.mark.parametrize(
    "waits", [lambda x: x.nonzero(), lambda x: float(x.sum()), lambda x: x[x > 0]]
)
def test_the_guard_notices(waits):
    with pytest.raises(AssertionError), NoWaiting():
        waits(torch.ones(3))
