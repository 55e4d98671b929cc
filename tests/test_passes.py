"""What training costs: passes at which runs reach a share, counted by hand."""

import pytest
from pir.analysis.figures.kinds import KINDS
from pir.analysis.figures.passes import training_curve
from pir.analysis.reading.groups import group_by_seed
from pir.analysis.reading.runs import Run

from pir.errors import UserError
from tests.run_folders import write_csv, write_run


def set_curve(folder, solved, every=100):
    """Makes up a validation curve, from step 0 on."""
    write_csv(
        folder / "improvement.csv",
        [
            {"optimizer_step": every * i, "k": k, "solved": value if k == 3 else 0.99}
            for i, value in enumerate(solved)
            for k in (1, 2, 3)
        ],
    )


def test_passes_at_which_a_group_reaches_the_first(tmp_path):
    curves = {
        ("slow", 1): (0.0, 0.2, 0.4, 0.5, 0.6),
        ("slow", 2): (0.0, 0.4, 0.6, 0.7, 0.6, 0.8),  # a longer run counts as far as the others
        ("fast", 1): (0.0, 0.5, 0.7, 0.7, 0.9),
        ("never", 1): (0.0, 0.1, 0.2, 0.2, 0.59),
    }
    folders = []
    for (name, seed), curve in curves.items():
        folders.append(write_run(tmp_path / f"{name}_seed{seed}", seed=seed, objective=name))
        set_curve(folders[-1], curve)
    figure = KINDS["passes"].draw([Run(folder) for folder in folders])
    (axis,) = figure.axes
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [
        "slow (2 seeds): 0.027 M passes",
        "fast: 0.018 M passes",
        "never: not reached",
    ]
    dashed, slow, slow_mark, _, fast_mark, _ = axis.get_lines()
    assert dashed.get_ydata() == pytest.approx([0.6, 0.6])
    assert slow.get_xdata().tolist() == [9000, 18000, 27000, 36000]  # 36,000 is beyond the log
    assert slow.get_ydata() == pytest.approx([0.3, 0.5, 0.6, 0.6])
    assert (slow_mark.get_xdata().tolist(), fast_mark.get_xdata().tolist()) == ([27000], [18000])
    assert axis.get_xscale() == "log"
    band = axis.collections[0].get_datalim(axis.transData).intervaly
    assert band == pytest.approx([0.2, 0.7])
    sentence = KINDS["passes"].describe(Run(folders[2]))
    assert sentence.endswith("36,000 forward passes; no evaluation before it solved as many.")


def test_passes_between_rows_of_the_log(tmp_path):
    folder = write_run(tmp_path / "a")
    set_curve(folder, (0.1, 0.5, 0.6), every=50)
    write_csv(
        folder / "metrics.csv",
        [{"optimizer_step": s, "forward_passes": p} for s, p in ((40, 400), (80, 1200))],
    )
    (group,) = group_by_seed([Run(folder)])
    assert training_curve(group).passes.tolist() == [600, 1500]


def test_passes_of_unlike_runs_are_refused(tmp_path):
    folders = [write_run(tmp_path / env, env=env) for env in ("countdown", "maze")]
    with pytest.raises(UserError, match="another env each"):
        KINDS["passes"].draw([Run(folder) for folder in folders])
    other = write_run(tmp_path / "seed2", seed=2)
    set_curve(other, (0.1, 0.5), every=70)
    with pytest.raises(UserError, match="no step of training at which all"):
        KINDS["passes"].draw([Run(folders[0]), Run(other)])


def test_figure_by_command(pir_here, tiny_run):
    done = pir_here("plot", f"run={tiny_run}", "kind=passes")
    assert done.stdout.strip() == str(tiny_run / "figures/passes.png")
    assert done.stderr.startswith("Training ends with ")
