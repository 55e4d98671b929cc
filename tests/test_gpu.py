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


OWN_OBJECTIVES = {"recurrent_depth": "recurrent_depth", "deep_thinking": "progressive"}
"""Reasoners that are made for losses of whole rollouts."""

LEAST_SOLVED = 0.4
"""Of Countdown with three numbers every reasoner solves at least so much after a few minutes."""


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_reasoners_learns(tmp_path, family):
    """The main job with another reasoner, at full size: at most three minutes each."""
    if family == "dual_lm":
        pytest.importorskip("transformers")
    run = RunFolder(tmp_path / "run")
    words = ["train", "env=countdown", f"model={family}", f"run={run.path}", f"device={DEVICE}"]
    budgets = ["trainer.max_minutes=3", "trainer.log_every=20", "trainer.test_puzzles=1000"]
    own = [f"objective={OWN_OBJECTIVES[family]}"] if family in OWN_OBJECTIVES else []
    assert main([*words, *budgets, *own, *FAMILIES[family]]) == 0
    losses = [float(row["loss"]) for row in read_rows(run.metrics)]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    summary = json.loads(run.summary.read_text())
    least = 0.05 if family == "dual_lm" else LEAST_SOLVED  # one narrow layer of a language model
    assert summary["solved"] >= least
    assert summary["solved"] >= summary["exact_accuracy"]
