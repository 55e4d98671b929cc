"""`pir bench growth`: where a line bends, what memory is counted, and what the command writes."""

import json
import sys

import pytest
import torch

from pir.bench import growth
from pir.cli.main import main
from pir.system.device import prepare_cpu
from pir.system.memory import PeakMemory, memory_in_use


def rows(sizes, cost):
    return [{"size": size, "milliseconds": cost(size)} for size in sizes]


SIZES = (1, 2, 4, 8, 16)


@pytest.mark.parametrize(
    ("cost", "bends_at"),
    [
        (lambda n: 50 + 3 * n, None),  # a straight line, whatever it costs at 0
        (lambda n: 7, None),
        (lambda n: 100 - n, None),
        (lambda n: n * n, 4),
        (lambda n: 10 * n + max(0, n - 8) ** 2, 16),
        (lambda n: 5 * n + 100 * n**0.5, None),  # flatter and flatter
        (lambda n: 1000 + n * n / 100, None),  # noise
    ],
)
def test_a_line_bends_where_one_more_costs_more(cost, bends_at):
    assert growth.bend(rows(SIZES, cost), "milliseconds") == bends_at


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux watches anew")
def test_peak_memory_is_that_since_it_was_asked():
    device = torch.device("cpu")
    first = PeakMemory(device)
    before = first.read()
    tensor = torch.ones(80, 2**20)  # 320 MiB
    with_tensor = first.read()
    assert with_tensor > before + 300 * 2**20
    del tensor
    assert first.read() == pytest.approx(with_tensor, rel=0.1)
    assert PeakMemory(device).read() < with_tensor - 300 * 2**20


def test_every_size_has_a_row_and_a_point(tmp_path, monkeypatch, capsys):
    small = {"batch": (2, 4), "tokens": (49, 81), "steps": (1, 2), "width": (8, 16)}
    monkeypatch.setattr(growth, "SIZES", small)
    monkeypatch.setattr(growth, "REST", {"batch": 2, "tokens": 49, "steps": 1, "width": 8})
    out = tmp_path / "growth.png"
    words = ["bench", "growth", "seconds=0.001", "threads=1", "device=cpu", "output=json"]
    assert main([*words, f"out={out}"]) == 0
    found = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["axis"], row["size"]) for row in found] == [
        (axis, size) for axis, sizes in small.items() for size in sizes
    ]
    assert all(row["milliseconds"] > 0 for row in found)
    memory = {(row["axis"], row["size"]): row["memory_bytes"] for row in found}
    alike = {memory[axis, small[axis][0]] for axis in ("batch", "tokens", "width")}
    assert len(alike) == 1  # one and the same training step
    for axis in ("batch", "tokens", "width"):
        at_rest, grown = (memory[axis, size] for size in small[axis])
        assert at_rest < grown < 3 * at_rest
    assert memory["steps", 2] < 1.2 * memory["steps", 1]
    assert out.read_bytes().startswith(b"\x89PNG")
    assert main(["bench", "growth", "axes=[depth]"]) == 2
    assert "batch, tokens, steps, width" in capsys.readouterr().err
    for wrong in ("axes=[batch,depth]", "out=growth.jpg"):  # before anything is measured
        assert main(["bench", "growth", "seconds=0.001", wrong]) == 2
        assert capsys.readouterr().out == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux alone says what is held")
def test_memory_in_use_is_without_what_was_freed():
    prepare_cpu(None)  # which has the process keep what it frees
    before = memory_in_use(torch.device("cpu"))
    taken = torch.ones(64 << 20)
    assert memory_in_use(torch.device("cpu")) - before > 200 << 20
    del taken
    assert memory_in_use(torch.device("cpu")) - before < 50 << 20
