"""Figures come from run folders alone, and say what the numbers say."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from pir.analysis.curves import draw_improvement, read_curve

from pir.errors import UserError
from pir.progress import bar_row, clock


def test_curve_reads_what_evaluation_wrote(tiny_run):
    curve = read_curve(tiny_run)
    content = json.loads((tiny_run / "eval/eval.json").read_text())
    assert curve.trained_steps == content["trained_steps"] == 2
    assert curve.columns["k"].tolist() == [1, 2, 3, 4]
    assert curve.columns["solved"] == pytest.approx([r["solved"] for r in content["per_step"]])
    low, high = curve.columns["solved_low"], curve.columns["solved_high"]
    assert np.all((low <= curve.columns["solved"]) & (curve.columns["solved"] <= high))


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_same_data_same_figure(tiny_run, tmp_path, ending):
    for name in ("one", "two"):
        draw_improvement([tiny_run, tiny_run], tmp_path / f"{name}.{ending}")
    one = (tmp_path / f"one.{ending}").read_bytes()
    assert one == (tmp_path / f"two.{ending}").read_bytes()
    assert len(one) > 3000


def test_analysis_loads_no_model(tiny_run):
    code = (
        "import sys; from pathlib import Path; from pir.analysis.curves import read_curve;"
        f"read_curve(Path({str(tiny_run)!r})); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_damaged_evaluations_are_refused(tiny_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    (folder / "eval/per_step.csv").write_text("k,solved\n1,x\n")
    with pytest.raises(UserError, match="damaged"):
        read_curve(folder)
    shutil.rmtree(folder / "eval")
    with pytest.raises(UserError, match="no evaluation yet"):
        read_curve(folder)


def test_bars_and_clock():
    assert bar_row([0.0, 0.5, 1.0]) == "| ▄█| 100.0 %"
    assert bar_row([]) == ""
    assert [clock(s) for s in (0, 61.4, 3725)] == ["0:00", "1:01", "1:02:05"]
