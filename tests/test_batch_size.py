"""The batch size of an evaluation changes speed and memory, and no number and no file."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from pir.envs.queens.rules import Queens

from pir.cli.commands.solve import Given, solve_all
from pir.cli.main import main
from pir.components import Components
from pir.evaluation.batch_size import Peak
from pir.evaluation.breadth import starts_differ
from pir.evaluation.exit_sweep import run_rule
from pir.evaluation.plan import Plan
from pir.evaluation.rollouts import evaluate, held_out
from pir.evaluation.run import evaluate_puzzles
from pir.evaluation.solve import Stop
from pir.exits import rules as exits
from pir.ledger.statistics import STATISTICS
from pir.models.dual import Dual
from pir.models.hrm import HRM
from pir.models.looped import Looped
from pir.models.recurrent_depth import RecurrentDepth
from pir.models.trm import TRM
from pir.runs.folder import RunFolder
from tests.conftest import TINY
from tests.small_reasoners import SMALL
from tests.training_runs import read_rows

KINDS = {
    "plain": (TRM, {}),
    "halting": (TRM, {"halt_head": True, "continue_head": True, "step_embedding": True}),
    "optimality": (TRM, {"optimality_token": True}),
    "all": (
        TRM,
        {
            "halt_head": True,
            "step_embedding": True,
            "optimality_token": True,
            "partial_answer": True,
        },
    ),
    "partial_answer": (TRM, {"partial_answer": True}),
    "partial_and_own_answer": (Looped, {"partial_answer": True, "reads_own_answer": True}),
    "recurrent_depth": (RecurrentDepth, {}),
    "recurrent_depth_partial": (RecurrentDepth, {"partial_answer": True, "halt_head": True}),
    "dual": (Dual, {}),
    "looped": (Looped, {"recall": True}),
    "hrm": (HRM, {}),
}


def make_model(kind, puzzle):
    network, settings = KINDS[kind]
    torch.manual_seed(0)
    model = network(puzzle, improvement_steps=2, **SMALL, **settings).eval()
    with torch.no_grad():  # an optimality token starts as zeros, so that it would change nothing
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def evaluation_files(kind, size, folder, count):
    """Evaluates with every sweep; returns eval.json, the tables and the arrays, without times."""
    puzzle = Queens(hide=(1, 3))
    rules = (exits.FixedDepth, exits.KLThreshold, exits.Verifier, exits.Oracle, exits.ExitGate)
    model = make_model(kind, puzzle)
    plan = Plan(
        split="test", puzzles=count, batch_size=size, improvement_steps=3, samples=3,
        guidance=[0.5, 1.0, 2.0], step_size=[0.5, 1.0], breadth=3 if starts_differ(model) else 1,
        exits={rule.__name__: rule() for rule in rules}, leave_out_exits=True,
    )  # fmt: skip
    parts = Components(puzzle, model, torch.device("cpu"))
    run = RunFolder(folder)
    sample = held_out(puzzle, "test", count, parts.device)
    evaluate_puzzles(parts, plan, run, sample, {"env": "made", "split": "test"})
    files = {"eval": json.loads((run.evaluation / "eval.json").read_text())}
    for path in run.evaluation.glob("*.csv"):
        files[path.stem] = read_rows(path)
    for path in run.evaluation.glob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            files |= {f"{path.stem}.{name}": arrays[name] for name in arrays.files}
    return files


FLOAT = re.compile(r"-?\d+\.\d+(e-?\d+)?")
TIMES = {"seconds", "seconds_per_step", "full_seconds", "batch_size"}


def compare(one, other, where=""):
    """Compares nested values: floats up to the rounding of products, all else exactly."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one.keys() - TIMES:
            compare(one[name], other[name], f"{where}.{name}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            compare(*pair, f"{where}[{index}]")
    elif isinstance(one, np.ndarray):
        near = 2e-3 if one.dtype == np.float16 else 2e-5
        assert one.shape == other.shape, where
        np.testing.assert_allclose(other, one, rtol=near, atol=near, err_msg=where)
    elif isinstance(one, float):
        near = 1e-2 if where.endswith("best_w") else 2e-5  # the least of a flat curve
        assert other == pytest.approx(one, rel=1e-4, abs=near, nan_ok=True), where
    elif isinstance(one, str) and FLOAT.fullmatch(one):
        compare(float(one), float(other), where)
    else:
        assert one == other, where


def check(kind, tmp_path, count, sizes):
    whole = evaluation_files(kind, 1000, tmp_path / "whole", count)
    assert len(whole["latents.latents"]) == min(count, 64)
    assert len(whole["latents.slots"]) == count
    assert {row["k"] for row in whole["cells"]} == {"1", "2", "3"}
    for size in sizes:
        compare(whole, evaluation_files(kind, size, tmp_path / str(size), count))


@pytest.mark.parametrize("kind", ["all", "partial_and_own_answer", "recurrent_depth_partial"])
def test_every_file_of_an_evaluation_is_the_same(kind, tmp_path):
    check(kind, tmp_path, 20, [7])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_file_is_the_same_for_more_sizes_and_reasoners(kind, tmp_path):
    check(kind, tmp_path / "many", 70, [7, 64])
    check(kind, tmp_path / "few", 15, [1])


@pytest.mark.parametrize("kind", ["plain", "partial_and_own_answer", "recurrent_depth"])
def test_a_puzzle_is_solved_alone_as_among_others_and_as_it_is_evaluated(kind):
    puzzle = Queens(hide=(1, 3))
    model = make_model(kind, puzzle)
    parts = Components(puzzle, model, torch.device("cpu"))
    sample = puzzle.sample(9, "test", seed=0)
    items = [("", Given(puzzle.format_question(q), q, None)) for q in sample["question"]]
    stop = Stop(exits.FixedDepth(), 4, 4)

    def solved(some, batch_size=None):
        return {result["puzzle"]: result for result in solve_all(parts, some, stop, batch_size)}

    together = solved(items)
    assert len(together) == len(items)
    for other in (solved(items[::-1], 2), solved(items[4:5])):
        assert other.items() <= together.items()
    verdicts = evaluate(model, puzzle, sample, 4, 5).solved.tolist()
    steps = [[step.solved for step in result["steps"]] for result in together.values()]
    assert steps == verdicts
    done = run_rule(model, puzzle, sample, exits.Verifier(), 1.0, 4, 2)
    firsts = [verdict.index(True) + 1 if True in verdict else 4 for verdict in verdicts]
    assert done.steps.tolist() == firsts


def test_a_run_with_small_batches_of_validation_and_test(tmp_path, monkeypatch):
    """`trainer.eval_batch_size` reaches both, and what a run is measured by stays."""
    monkeypatch.setattr("sys.argv", list(sys.argv))
    few = ["trainer.max_optimizer_steps=3", "trainer.val_puzzles=7", "trainer.test_puzzles=8"]
    words = ["train", "env=countdown", *TINY, *few]
    rows = {}
    for size in ("null", "3"):
        folder = tmp_path / size
        assert main([*words, f"run={folder}", f"trainer.eval_batch_size={size}"]) == 0
        facts = json.loads((folder / "eval/eval.json").read_text())
        assert facts["cost"]["batch_size"] == (8 if size == "null" else 3)
        rows[size] = {
            "validation": read_rows(folder / "improvement.csv"),
            "test": read_rows(folder / "eval/per_step.csv"),
            "puzzles": read_rows(folder / "eval/per_puzzle.csv"),
        }
    compare(rows["null"], rows["3"])
    assert main(["train", f"resume={tmp_path / '3'}", "trainer.eval_batch_size=8"]) == 0
    assert main([*words, f"run={tmp_path / 'no'}", "trainer.eval_batch_size=0"]) == 2


@pytest.mark.parametrize("kind", ["plain", "looped", "hrm"])
def test_more_steps_need_no_more_memory(kind):
    """But for the ledger's numbers, 51 a step and puzzle, and copies of those while it ends."""
    puzzle = Queens(hide=(2, 6))
    model, puzzles = make_model(kind, puzzle), held_out(puzzle, "test", 20)
    peaks = {}
    for num_steps in (4, 64):
        with Peak() as peak:
            evaluate(model, puzzle, puzzles, num_steps)
        peaks[num_steps] = peak.most
    of_ledger = 60 * len(puzzles) * sum(each.width for each in STATISTICS.values()) * 4
    state = model.start(puzzles["question"])
    of_states = 60 * sum(part.numel() * part.element_size() for part in state.values())
    assert peaks[64] - peaks[4] < 2 * of_ledger
    assert of_states > of_ledger / 2  # they would be seen, were they kept
