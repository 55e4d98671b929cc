"""`pir bench train`: what it prints, in which order it runs, and whom it runs against."""

import itertools
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pir.envs.countdown import Countdown

from pir.bench import contenders, training
from pir.bench.contenders import PeerSteps, Trained
from pir.bench.parts import PARTS
from pir.cli.main import main
from pir.evaluation.cost import flops_per_step, training_flops_per_step
from pir.models.trm import TRM

ROOT = Path(__file__).parents[1]

PEER = """
from pathlib import Path


def make(shapes):
    assert shapes.question.shape == shapes.solution.shape == (shapes.batch_size, shapes.tokens)
    Path("shapes").write_text(f"{shapes.batch_size} {shapes.cycles} {shapes.latent_steps}")

    def step():
        with Path("steps").open("a") as file:
            file.write("x")

    return step


def wrong(shapes):
    return 7
"""
TINY = ["bench", "train", "preset=tiny", "batch_size=8", "seconds=0.001", "threads=1", "device=cpu"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in (
        "a_peer",
        "official_trm",
        *(n for n in sys.modules if n.partition(".")[0] == "models"),
    ):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "a_peer.py").write_text(PEER)
    return tmp_path


def test_a_preset_and_a_peer_of_the_current_folder(place, capsys):
    assert main([*TINY, "against=a_peer:make", "output=json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["info"]["threads"] == 1
    assert result["info"]["device"] == "cpu"
    assert result["info"]["versions"]["torch"]
    ours, peer = result["rows"]
    assert (ours["contender"], peer["contender"]) == ("pir", "a_peer:make")
    assert tuple(ours["shares"]) == PARTS
    assert sum(ours["shares"].values()) == pytest.approx(1)
    assert all(ours["shares"][part] > 0 for part in PARTS)
    assert ours["tokens_per_second"] == pytest.approx(ours["improvement_steps_per_second"] * 6)
    assert ours["improvement_steps_per_second"] == pytest.approx(8000 / ours["milliseconds"])
    assert 0 < ours["utilisation"] < 1
    assert ours["peak_memory_bytes"] > 1e7
    assert peer["times_as_long_as_pir"] < 1
    assert (place / "shapes").read_text() == "8 1 2"
    assert len((place / "steps").read_text()) >= 2 * (2 + training.ROUNDS)
    for method in ("improve", "read_out"):
        assert method not in vars(TRM(Countdown()))
    assert torch.Tensor.backward.__module__ == "torch._tensor"


OFFICIAL = {
    "ema": """
class EMAHelper:
    def __init__(self, mu): pass
    def register(self, model): self.model = model
    def update(self, model): assert model is self.model
""",
    "losses": """
import torch
class ACTLossHead(torch.nn.Module):
    def __init__(self, model, loss):
        super().__init__()
        self.model = model
    def initial_carry(self, batch):
        return 0
    def forward(self, carry, batch, return_keys):
        self.model.seen(carry, batch)
        return carry + 1, self.model.weight.sum(), {}, None, False
""",
    "recursive_reasoning/trm": """
import torch
class TinyRecursiveReasoningModel_ACTV1(torch.nn.Module):
    steps = []
    def __init__(self, settings):
        super().__init__()
        self.settings, self.weight = settings, torch.nn.Parameter(torch.ones(1))
    def seen(self, carry, batch):
        shape = tuple(batch["inputs"].shape), tuple(batch["labels"].shape)
        self.steps.append((self.settings["puzzle_emb_len"], carry, self.weight.item(), shape))
""",
}
"""Stands in for what `examples/official_trm.py` uses of the official code."""


def test_the_official_code_beside(place, capsys, monkeypatch):
    for name, text in OFFICIAL.items():
        path = place / "models" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    shutil.copy(ROOT / "examples/official_trm.py", place)
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    peers = "against=[official_trm:make,official_trm:cells_alone]"
    assert main([*TINY, peers, "output=json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["contender"] for row in rows[1:]] == [
        "official_trm:make",
        "official_trm:cells_alone",
    ]
    official = sys.modules["official_trm"].Official
    for tokens in (16, 0):
        steps = [step[1:] for step in official.steps if step[0] == tokens]
        carries, weights, shapes = zip(*steps, strict=True)
        assert carries == tuple(range(len(steps)))
        assert all(a > b for a, b in itertools.pairwise(weights))
        assert set(shapes) == {((8, 6), (8, 6))}


def test_contenders_run_in_turn(monkeypatch):
    order = []
    monkeypatch.setattr(training, "_shapes", lambda *_: None)
    monkeypatch.setattr(training, "find_peer", lambda _: None)
    monkeypatch.setattr(training, "peer_step", lambda *_: None)
    monkeypatch.setattr(training, "_utilisation", lambda *_: {})
    monkeypatch.setattr(Trained, "shares", lambda *_: None)
    monkeypatch.setattr(PeerSteps, "run", lambda self, steps: order.append("peer") or steps * 0.5)

    def run(self, steps):
        order.append("pir")
        return steps * (0.1 if len(order) < 6 else 0.3)

    monkeypatch.setattr(Trained, "run", run)
    settings, puzzle = SimpleNamespace(batch_size=4), SimpleNamespace(length=5)
    trainer = SimpleNamespace(settings=settings, puzzle=puzzle)
    monkeypatch.setattr(training, "trainer_of", lambda *_: trainer)
    rows = list(training.measure(["tiny"], ["peer"], 1.0, torch.device("cpu")))
    assert order == ["pir", "pir", "peer", "peer"] + ["pir", "peer"] * training.ROUNDS
    ours, peer = rows
    assert ours["milliseconds"] == pytest.approx(300)  # the median of 100, 300 and 300
    assert peer["times_as_long_as_pir"] == pytest.approx(5 / 3)


def test_the_same_in_float32_and_not_compiled_is_said_in_lines(capsys, monkeypatch):
    built, inside = [], training.trainer_of

    def trainer_of(config, *others):
        built.append((config.model.dtype, config.trainer.compile))
        return inside(config, *others)

    monkeypatch.setattr(training, "trainer_of", trainer_of)
    assert main([*TINY, "against=float32"]) == 0
    assert built == [("auto", "auto"), ("float32", "none")]
    out = capsys.readouterr().out.splitlines()
    assert "1 thread, torch " in out[0]
    assert out[1] == "tiny trm, batch 8, 6 tokens: pir"
    assert "tiny trm, batch 8, 6 tokens: float32, " in "\n".join(out)
    assert all(len(line) < 100 for line in out)
    assert [part for part in PARTS if part in out[5]] == list(PARTS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["preset=huge"], "preset=huge: allowed are tiny, compact, paper"),
        (["batch_size=0"], "must be at least 1"),
        (["threads=0"], "threads=0: allowed"),
        (["against=nobody"], "against=nobody: is no module:function"),
        (["against=nobody:make"], "no such function"),
        (["against=a_peer:nothing"], "no such function"),
        (["against=a_peer:wrong"], "int was returned; a callable is due"),
    ],
)
def test_mistakes(words, message, capsys):
    assert main([*TINY, *words]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("installed", "message"),
    [
        (False, "pip install 'policy-improvement-reasoners[bench]'"),
        (True, "it takes at least two cycles, and attention or mlp: preset=compact or"),
    ],
)
def test_what_lucidrains_needs(installed, message, capsys, monkeypatch):
    monkeypatch.setattr(contenders, "find_spec", lambda name: installed or None)
    assert main([*TINY, "against=lucidrains"]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_operations_of_training():
    """A cycle without gradient costs what it costs in use; the gradient costs twice the rest."""
    puzzle = Countdown()
    question = puzzle.sample(1, "train", seed=0)["question"]
    one, two = (TRM(puzzle, hidden_size=32, heads=2, cycles=cycles) for cycles in (1, 2))
    once, twice = flops_per_step(one, question), flops_per_step(two, question)
    learnt = training_flops_per_step(one, question)
    assert training_flops_per_step(two, question) - learnt == twice - once
    assert learnt == 3 * once


@pytest.mark.skipif(find_spec("tiny_recursive_model") is None, reason="needs the extra bench")
@pytest.mark.parametrize("model", ["trm_5m", "trm_7m"])
def test_lucidrains_trains(model, capsys, monkeypatch):
    words = [*training.PAPER, f"model={model}", "model.hidden_size=32", "trainer.batch_size=2"]
    monkeypatch.setitem(training.PRESETS, "tiny", [words])
    assert main([*TINY, "against=lucidrains", "output=json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["contender"] for row in rows] == ["pir", "lucidrains"]
