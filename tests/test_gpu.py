"""The same laws on a CUDA device, and every reasoner trained on it; skipped where there is none."""

import json

import pytest
import torch

from pir.cli.main import main
from pir.evaluation.exit_sweep import run_rule
from pir.evaluation.rollouts import evaluate, held_out
from pir.exits.early_exit import steps_until_exit
from pir.exits.rules import PredictedGain, Verifier
from pir.laws.checks import build_case
from pir.laws.devices import any_token_is_judged, results_stay_on_the_device
from pir.models.network import Network
from pir.models.trm import TRM
from pir.runs.folder import RunFolder
from tests.elsewhere import FAMILIES, TELLING, evaluate_fresh, names, train_and_resume
from tests.puzzles import VARIANTS
from tests.training_runs import read_rows

DEVICE = torch.device("cuda", 0)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("name", VARIANTS)
def test_puzzles_answer_as_on_the_cpu(name):
    """Verdicts, conflicts, keys, answers, symmetric images and the like, where their inputs are."""
    case = build_case(VARIANTS[name](), 30)
    results_stay_on_the_device(case, DEVICE)
    any_token_is_judged(case)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_label_is_solved_with_score_one(name):
    puzzle = VARIANTS[name]()
    sample = puzzle.sample(200, "test", seed=5)
    question, label = (sample[part].to(DEVICE) for part in ("question", "solution"))
    verdict = puzzle.verify(question, label)
    assert verdict.solved.all()
    assert (verdict.score == 1).all()
    spoilt = label.clone()
    rows = torch.arange(len(label), device=DEVICE)
    spoilt[rows, puzzle.written(question).int().argmax(1)] = 0
    verdict = puzzle.verify(question, spoilt)
    assert not verdict.solved.any()
    assert (verdict.score < 1).all()


@pytest.mark.parametrize("objective", names("objective"))
def test_every_objective_trains_and_resumes(tmp_path, objective):
    options = [] if objective in TELLING else ["trainer.replay_share=0.25"]
    trainer = train_and_resume(tmp_path, str(DEVICE), f"objective={objective}", *options, steps=6)
    assert trainer.state.lanes.now.logits.device == DEVICE
    assert trainer.stream.ahead


@pytest.mark.parametrize("lanes", ["ledger", "halting", "synchronous"])
def test_lanes_are_refilled(tmp_path, lanes):
    options = ["model.halt_head=true", "objective=deep_supervision"] if lanes == "halting" else []
    options += [f"trainer.lanes={lanes}", "trainer.replay_share=0.5"]
    train_and_resume(tmp_path, str(DEVICE), *options, steps=6)


@pytest.mark.parametrize("env", ["countdown", "sudoku4", "queens", "maze", "graph"])
def test_every_evaluation_runs(tmp_path, env):
    options = (f"env={env}", "model.halt_head=true")
    here = evaluate_fresh(tmp_path / "here", "cpu", *options)
    there = evaluate_fresh(tmp_path / "there", str(DEVICE), *options)
    assert there.keys() == here.keys()
    assert there["floors"]["look_up"] == here["floors"]["look_up"]


@pytest.mark.parametrize("option", ["partial_answer", "optimality_token", "reads_own_answer"])
def test_rollouts_that_are_told_more_run(tmp_path, option):
    found = evaluate_fresh(tmp_path, str(DEVICE), f"model.{option}=true", exits=False)
    assert found["puzzles"] == 20


def test_rollouts_and_exits_agree_with_the_cpu():
    puzzle = VARIANTS["queens"]()
    torch.manual_seed(0)
    model = TRM(puzzle, hidden_size=16, heads=2, dtype="float32").eval()
    puzzles = held_out(puzzle, "test", 60, torch.device("cpu"))
    here = evaluate(model, puzzle, puzzles, 4, 25)
    model, puzzles = model.to(DEVICE), puzzles.to(DEVICE)
    there = evaluate(model, puzzle, puzzles, 4, 25)
    torch.testing.assert_close(there.values["kl"], here.values["kl"], rtol=1e-2, atol=1e-4)
    rule = PredictedGain()
    rule.fit(there.values)
    assert run_rule(model, puzzle, puzzles, rule, 1.0, 4, 25).steps.tolist() == [4] * 60
    steps = list(steps_until_exit(model, puzzle, puzzles, Verifier(), 1.0, 3))
    assert all(rows.device == DEVICE for rows, _ in steps)


SHAPES = [
    (81, 8, 64),
    (36, 2, 32),
    (9, 1, 16),
    (128, 2, 64),
    (65, 1, 64),
    (16, 1, 16),
    (64, 1, 128),
]


@pytest.mark.parametrize(("length", "heads", "width"), SHAPES)
def test_attention_in_one_kernel_is_attention(length, heads, width):
    attend = pytest.importorskip("pir.models.relation_attention").attend
    torch.manual_seed(0)
    qkv = torch.randn(5, length, 3 * heads * width).to(DEVICE, torch.bfloat16).requires_grad_()
    bias = torch.randn(heads, length, length).to(DEVICE, torch.bfloat16).requires_grad_()
    grad = torch.randn(5, length, heads * width).to(DEVICE, torch.bfloat16)
    out = attend(qkv, bias)
    out.backward(grad)
    wide, wide_bias = (part.detach().double().requires_grad_() for part in (qkv, bias))
    q, k, v = wide.unflatten(-1, (3, heads, -1)).movedim(-3, 0).transpose(2, 3)
    policy = torch.softmax(q @ k.mT * width**-0.5 + wide_bias, -1)
    expected = (policy @ v).transpose(1, 2).flatten(2)
    expected.backward(grad.double())
    pairs = [(out, expected), (qkv.grad, wide.grad), (bias.grad, wide_bias.grad)]
    for found, slow in pairs:
        assert (found.double() - slow).norm() < 0.01 * slow.norm()


@pytest.mark.parametrize("mixer", ["attention", "mlp", "candidates"])
def test_networks_compute_as_on_the_cpu(mixer):
    """Where a GPU takes kernels of its own or pads: attention with relations, tokens, sets."""
    puzzle = VARIANTS["sudoku9"]()
    torch.manual_seed(0)
    network = Network(puzzle, 64, layers=2, heads=2, mixer=mixer, expansion=2.0)
    tokens = int(puzzle.slot_mask.sum()) if mixer == "candidates" else puzzle.length
    x, grad = torch.randn(5, tokens, 64).requires_grad_(), torch.randn(5, tokens, 64)
    slow = network(x)
    slow.backward(grad)
    expected = [slow.detach(), x.grad, *(weight.grad.clone() for weight in network.parameters())]
    network.zero_grad()
    network.to(DEVICE)
    low = x.detach().to(DEVICE, torch.bfloat16).requires_grad_()
    fast = network(low)
    fast.backward(grad.to(low))
    found = [fast.detach(), low.grad, *(weight.grad for weight in network.parameters())]
    for ours, exact in zip(found, expected, strict=True):
        assert (ours.cpu().float() - exact).norm() < 0.05 * exact.norm()


OWN_OBJECTIVES = {"recurrent_depth": "recurrent_depth", "deep_thinking": "progressive"}
"""Reasoners that are made for losses of whole rollouts."""

LEAST_SOLVED = 0.4
"""Of Countdown with three numbers every reasoner solves at least so much after a minute."""


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_reasoners_learns(tmp_path, family):
    """The main job with another reasoner, at full size: at most a minute each."""
    if family == "dual_lm":
        pytest.importorskip("transformers")
    run = RunFolder(tmp_path / "run")
    words = ["train", "env=countdown", f"model={family}", f"run={run.path}", f"device={DEVICE}"]
    budgets = ["trainer.max_minutes=1", "trainer.log_every=20", "trainer.test_puzzles=1000"]
    own = [f"objective={OWN_OBJECTIVES[family]}"] if family in OWN_OBJECTIVES else []
    assert main([*words, *budgets, *own, *FAMILIES[family]]) == 0
    losses = [float(row["loss"]) for row in read_rows(run.metrics)]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    summary = json.loads(run.summary.read_text())
    least = 0.05 if family == "dual_lm" else LEAST_SOLVED  # one narrow layer of a language model
    assert summary["solved"] >= least
    assert summary["solved"] >= summary["exact_accuracy"]
