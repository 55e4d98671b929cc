"""`pir eval` and `pir solve` on a tiny run: their files, their output, and mistakes."""

import json
import shutil
import sys

import numpy as np
import pytest

from pir.cli.main import main
from pir.evaluation import run as evaluation
from tests.training_runs import read_rows


@pytest.fixture
def command(capsys, monkeypatch, tiny_run):
    """Runs a command on a tiny run in this process; returns its output."""
    monkeypatch.setattr(sys, "argv", list(sys.argv))

    def run(*words, code=0):
        assert main([words[0], f"run={tiny_run}", *words[1:]]) == code
        return capsys.readouterr()

    return run


def test_eval_writes_one_whole_evaluation(command, tiny_run):
    words = ["eval", "eval.puzzles=30", "eval.improvement_steps=4"]
    done = command(*words, "eval.guidance=[2,0.5]", "eval.step_size=[0.5]", "eval.breadth=2",
                   "eval.exit=all", "output=json")  # fmt: skip
    result = json.loads(done.out)
    assert "halt_head left out: it needs halt_probability" in done.err
    folder = tiny_run / "eval"
    tables = {path.stem: read_rows(path) for path in folder.glob("*.csv")}
    assert set(tables) == {
        "per_step", "per_outcome", "strata", "per_puzzle", "cells", "guidance", "step_size",
        "breadth", "exits", "examples",
    }  # fmt: skip
    names = [statistic["name"] for statistic in result["statistics"]]
    assert set(names) <= set(tables["per_step"][0])
    assert all(row["meaning"] and row["unit"] for row in result["statistics"])
    assert [row["w"] for row in tables["guidance"][::4]] == ["0.5", "1.0", "2.0"]
    at_one = [float(r["solved"]) for r in tables["guidance"] if r["w"] == "1.0"]
    assert at_one == pytest.approx([float(row["solved"]) for row in tables["per_step"]])
    assert sum(int(row["puzzles"]) for row in tables["strata"] if row["k"] == "1") == 30
    rules = {row["rule"] for row in tables["exits"]}
    assert {"fixed", "kl", "verifier", "oracle", "predicted_gain"} <= rules
    with np.load(folder / "steps.npz", allow_pickle=False) as arrays:
        assert arrays["score"].shape == (30, 4)
        assert arrays["rating"].shape == (30,)
        mean = arrays["score"].mean(0)
    assert mean == pytest.approx([float(row["score"]) for row in tables["per_step"]], abs=1e-5)


def test_what_keeps_answers_is_seen_in_the_tables(command, tiny_run):
    words = ["eval", "eval.puzzles=30", "eval.improvement_steps=5", "output=json"]
    plain = json.loads(command(*words).out)
    assert {"damping_after", "step_noise"}.isdisjoint(plain)
    damped = json.loads(command(*words, "eval.step_size=[0.5]", "eval.damping_after=3").out)
    assert damped["damping_after"] == 3
    rows = [row for row in read_rows(tiny_run / "eval/step_size.csv") if row["step_size"] == "0.5"]
    by_step = list(zip(rows, plain["per_step"], strict=True))
    for row, whole in by_step[:3]:
        assert [float(row[n]) for n in ("solved", "score", "lost")] == [
            whole[n] for n in ("solved", "score", "lost")
        ]
    assert any(float(row["score"]) != whole["score"] for row, whole in by_step[3:])
    noisy = json.loads(command(*words, "eval.step_noise=0.5", "eval.breadth=2").out)
    assert noisy["step_noise"] == 0.5
    assert noisy["per_step"][0]["score"] != plain["per_step"][0]["score"]
    first = next(row for row in noisy["breadth"] if row["selector"] == "first")
    assert first["forward_passes"] == noisy["per_step"][4]["forward_passes"]
    assert first["solved"] == pytest.approx(noisy["per_step"][4]["solved"])


def test_the_dtype_of_an_evaluation_can_be_another_than_in_training(command, tiny_run):
    words = ["eval", "eval.puzzles=30", "output=json"]
    of_run, exact, coarse = (
        json.loads(command(*words, *dtype).out)
        for dtype in ([], ["eval.dtype=float32"], ["eval.dtype=bfloat16"])
    )
    assert "dtype" not in of_run
    assert (exact["dtype"], coarse["dtype"]) == ("float32", "bfloat16")
    assert exact["per_step"][0]["kl"] != coarse["per_step"][0]["kl"]
    assert exact["per_step"][0]["kl"] == pytest.approx(coarse["per_step"][0]["kl"], rel=0.1)


def test_solve_with_an_exit_rule(command, tiny_run, monkeypatch):
    solve = ["solve", "puzzle=3 7 8 = 29"]
    text = command("eval", "eval.puzzles=30", "eval.exit=[kl,predicted_gain]").out
    assert [line.split()[0] for line in text.splitlines() if line.startswith("  ") and "%" in line
            and not line.split()[0].isdigit()] == ["kl", "predicted_gain"]  # fmt: skip
    assert text.count("*") >= 2
    assert "  step" in command(*solve, "exit=predicted_gain").out
    assert "  step" in command(*solve, "exit=kl").out
    refused = command("eval", "eval.puzzles=30", "eval.exit=halt_head", code=2).err
    assert "eval.exit=halt_head: it needs halt_probability" in refused
    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "Pass", None)  # refused before anything is measured
        refused = command("eval", "eval.breadth=3", "eval.noise=0", code=2).err
    assert "starts without noise are all the same" in refused
    assert (tiny_run / "eval/exits.csv").exists()
    assert "gone with the evaluation before: exits.csv" in command("eval", "eval.puzzles=30").err
    assert not (tiny_run / "eval/exits.csv").exists()
    for learnt in ("exit=predicted_gain", "exit.threshold=0.5"):
        solve_by = [*solve, "exit=predicted_gain", learnt]
        assert "eval.exit=predicted_gain" in command(*solve_by, code=2).err
    assert "does not have" in command(*solve, "exit=halt_head", "exit.threshold=0.9", code=2).err

    def steps(*words):
        return len(json.loads(command(*solve, *words, "output=json").out)["steps"])

    assert steps("exit=fixed", "exit.threshold=5") == 5
    for threshold, message in {
        "0.5": "exit.threshold=0.5: must be at least 1 and at most 1000000",
        "1e300": "exit.threshold=1e+300: must be at least 1",
        "2.5": "exit.threshold=2.5: must be a whole number",
        "inf": "exit.threshold=inf: allowed is a finite number",
    }.items():
        words = ("exit=fixed", f"exit.threshold={threshold}")
        assert message in command(*solve, *words, code=2).err
    never = ("exit=verifier", "exit.threshold=nan")
    assert "exit.threshold=nan: allowed is a finite number" in command(*solve, *never, code=2).err
    assert "eval.exit=kl" in command(*solve, "exit=kl", code=2).err
    assert "  step" in command(*solve, "exit=verifier").out
    assert steps("exit=kl", "exit.threshold=1e9") == 1
    assert steps("exit=verifier", "exit.threshold=2", "improvement_steps=3") == 3
    assert "looks ahead" in command(*solve, "exit=oracle", code=2).err


def test_eval_of_several_runs_sums_up_over_seeds(capsys, monkeypatch, tiny_run, tmp_path):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    other = tmp_path / "tiny2"
    shutil.copytree(tiny_run, other)
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("seed: 0", "seed: 1"))
    words = ["eval", f"runs={tiny_run} {other}", "eval.puzzles=30", "eval.samples=0"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "(2 seeds): solved" in text
    assert "bootstrap over 2 seeds (too narrow" in text
    assert main([*words, "output=json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("eval.exit=kll", "eval.exit=kll: allowed are all"),
        ("eval.split=val eval.exit=kl", "thresholds on the val split"),
        ("eval.breadth=0", "must be at least 1"),
        ("eval.improvement_steps=2000000", "improvement_steps=2000000: must be at least 1 and at"),
        ("eval.noise=-1", "must be at least 0"),
        ("eval.step_noise=-1", "eval.step_noise=-1.0: must be at least 0"),
        ("eval.step_noise=0.1 eval.exit=kl", "exit rules take steps without noise"),
        ("eval.damping_after=-1", "eval.damping_after=-1: must be at least 0"),
        ("eval.damping_after=2", "set eval.step_size=[...]"),
        ("eval.dtype=half", "dtype=half: allowed are auto, float32, bfloat16"),
        ("eval.guidance=[nan]", "out of range"),
    ],
)
def test_mistakes_are_named(command, word, message):
    assert message in command("eval", *word.split(), code=2).err


def test_a_rule_that_needs_a_label_is_refused(command, tmp_path):
    (tmp_path / "exit").mkdir()
    (tmp_path / "peeking.py").write_text(
        "from pir.exits.rules import Below\n\n\n"
        "class Peeking(Below):\n    needs = ('cell_accuracy',)\n"
    )
    (tmp_path / "exit/peeking.yaml").write_text("_target_: peeking.Peeking\nthreshold: null\n")
    done = command("eval", "eval.exit=peeking", f"--config-dir={tmp_path}", code=2)
    assert "exit=peeking needs the statistic cell_accuracy" in done.err


def test_small_batches_and_single_puzzles_still_make_a_report(command, tiny_run):
    for words in (["eval.puzzles=20", "eval.batch_size=8"], ["eval.puzzles=1", "eval.exit=all"]):
        text = command("eval", *words, "output=json").out
        json.loads(text, parse_constant=pytest.fail)  # no NaN
    command("report")
    assert (tiny_run / "report.html").stat().st_size > 10_000


def test_an_evaluation_with_a_name_takes_no_other_ones_place(command, tiny_run):
    plain = ["eval", "eval.puzzles=20"]
    first = command(*plain, "output=json").out
    named = command(*plain, "eval.name=deep", "eval.improvement_steps=5").err
    assert "replace the evaluation" not in named
    assert json.loads((tiny_run / "eval/eval.json").read_text()) == json.loads(first)
    deep = tiny_run / "evals/deep"
    assert len(read_rows(deep / "per_step.csv")) == 5
    told = command(*plain, "eval.name=deep", "eval.improvement_steps=3").err
    assert (
        f"will replace the evaluation in {deep} (20 test puzzles, 5 steps); eval.name=NAME" in told
    )
    assert f"will replace the evaluation in {tiny_run / 'eval'} (" in command(*plain).err
    for word in ("eval.name=a/b", "eval.name=..", "eval.name=-x"):
        assert "allowed is the name of a folder" in command(*plain, word, code=2).err

    out = command("plot", "eval=deep").out.strip()
    assert out == str(tiny_run / "figures/improvement-deep.png")
    assert "after step 3" in command("plot", "eval=deep").err
    assert command("report", "eval=deep").out.strip() == str(tiny_run / "report-deep.html")
    missing = command("plot", "eval=deep", "kind=exits", code=2).err
    assert f"`pir eval run={tiny_run} eval.name=deep eval.exit=all`" in missing
    assert "eval.name=other" in command("plot", "eval=other", code=2).err
