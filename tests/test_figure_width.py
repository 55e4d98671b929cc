"""Figures for a column of a paper, `pir plot width=3.3`, and in a script with other figures."""

import subprocess
import sys

import pytest
from pir.analysis.figures.kinds import KINDS
from pir.analysis.reading.runs import Run

from tests.run_folders import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has the data of every kind of figure."""
    return Run(write_run(tmp_path_factory.mktemp("runs") / "a"))


@pytest.mark.parametrize("kind", KINDS)
def test_narrow_figures_have_their_panels_under_each_other(run, kind):
    """A figure for a column of a paper is as wide as asked, and its text is as large."""
    wide, narrow = (KINDS[kind].figure([run], inches=inches) for inches in (9.5, 3.3))
    assert (wide.get_figwidth(), narrow.get_figwidth()) == (9.5, 3.3)
    names = [[axis.get_ylabel() for axis in figure.axes] for figure in (wide, narrow)]
    assert names[0] == names[1]

    def columns(figure):
        figure.draw_without_rendering()
        return {round(axis.get_position().x0, 1) for axis in figure.axes if axis.get_ylabel()}

    if len(columns(wide)) > 1:
        assert len(columns(narrow)) < len(columns(wide))
        assert narrow.get_figheight() > 1.5 * wide.get_figheight()


@pytest.mark.parametrize("kind", KINDS)
def test_a_narrow_figure_is_as_wide_as_asked_and_its_panels_have_room(run, kind):
    """Saved figures are cut to what is drawn, and grow by what sticks out: a legend, a label."""
    figure = KINDS[kind].figure([run], inches=3.3)
    figure.draw_without_rendering()
    assert figure.get_tightbbox().width < 3.35
    for axis in figure.axes:
        if axis.get_xlabel():
            assert axis.get_window_extent().width / figure.dpi > 1


def test_titles_of_a_narrow_figure_keep_off_the_scale_beside_them(run):
    figure = KINDS["latents"].figure([run], inches=3.3)
    figure.draw_without_rendering()
    (bar,) = [axis for axis in figure.axes if axis.get_label() == "<colorbar>"]
    for axis in figure.axes:
        title = axis.title if axis.get_title() else axis._left_title
        if title.get_text().startswith("Steps"):
            assert title.get_window_extent().x1 < bar.get_window_extent().x0


def test_plot_refuses_a_width_that_is_none(pir_here, tmp_path):
    run = write_run(tmp_path / "run")
    said = pir_here("plot", f"run={run}", "width=240", code=2).stderr
    assert said.strip() == "pir plot: width=240: allowed are 2.5 to 20 inches"


def test_figures_leave_the_look_of_others_as_it_is(run, tmp_path):
    code = (
        "import sys, matplotlib; from pathlib import Path; matplotlib.rcParams['font.size'] = 7;"
        "matplotlib.use('svg'); before = dict(matplotlib.rcParams);"
        "from pir.analysis.figures import draw, growth; from pir.analysis.figures.kinds import *;"
        f"save_kind('margins', [Path({str(run.folder)!r})], Path({str(tmp_path / 'x.png')!r}));"
        "print(dict(matplotlib.rcParams) == before, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
