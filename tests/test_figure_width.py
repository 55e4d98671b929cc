"""Figures for a column of a paper: `pir plot width=3.3`."""

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


def test_plot_refuses_a_width_that_is_none(pir_here, tmp_path):
    run = write_run(tmp_path / "run")
    said = pir_here("plot", f"run={run}", "width=240", code=2).stderr
    assert said.strip() == "pir plot: width=240: allowed are 2.5 to 20 inches"
