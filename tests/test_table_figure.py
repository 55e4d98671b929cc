"""Tables of many runs as figures: panels, lines and levels."""

import numpy as np
import pytest
from pir.analysis.pages.table_figure import draw_table

from pir.errors import UserError
from tests.test_table import table, write, write_grid


@pytest.fixture
def grid(tmp_path):
    return write_grid(tmp_path)


def lines(axis):
    return {str(line.get_label()): line for line in axis.get_lines()}


def test_a_figure_has_a_panel_per_first_column_and_a_line_per_row(tmp_path):
    folders = [
        write(
            tmp_path / f"{env}_{model}_{latents}_{seed}",
            solved + seed / 10,
            env=env,
            model=model,
            seed=seed,
            settings=f"trainer: {{lanes: {latents}}}\n",
        )
        for env, shift in (("countdown", 0.0), ("maze", 0.2))
        for model, latents, solved in (
            ("dual", 1, 0.3 + shift), ("dual", 16, 0.1 + shift), ("trm", 16, 0.5 + shift)
        )
        for seed in (1, 2)
    ]  # fmt: skip
    figure = draw_table(table(*folders, rows=["model"], columns=["env", "trainer.lanes"]))
    countdown, maze = figure.axes
    assert (countdown.get_title("left"), maze.get_title("left")) == ("countdown", "maze")
    assert countdown.get_xlabel() == "trainer.lanes"
    assert countdown.get_xscale() == "log"
    assert [tick.get_text() for tick in maze.get_xticklabels()] == ["1", "16"]
    assert lines(countdown)["dual"].get_xydata() == pytest.approx(np.array([[1, 0.45], [16, 0.25]]))
    assert lines(maze)["trm"].get_xydata() == pytest.approx(np.array([[16, 0.85]]))
    seeds = [line.get_ydata() for line in maze.get_lines() if line.get_linestyle() == "None"]
    assert sorted(np.concatenate(seeds)) == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8, 0.9])


def test_a_run_without_the_setting_of_the_axis_is_a_level_line(tmp_path):
    folders = [
        write(tmp_path / str(lanes), 0.1 * lanes, seed=1, settings=f"trainer: {{lanes: {lanes}}}\n")
        for lanes in (2, 4)
    ]
    folders.append(write(tmp_path / "plain", 0.3, model="feedforward"))
    (axis,) = draw_table(table(*folders, rows=["model"], columns=["trainer.lanes"])).axes
    assert axis.get_xscale() == "linear"
    assert lines(axis)["feedforward"].get_ydata() == pytest.approx([0.3, 0.3])


def test_no_empty_panels(tmp_path):
    folders = [
        write(tmp_path / f"{env}_{lanes}", env=env, settings=f"trainer: {{lanes: {lanes}}}\n")
        for env in ("a", "b", "c", "d", "e", "f")
        for lanes in (1, 2)
    ]
    figure = draw_table(table(*folders, columns=["env", "trainer.lanes"]))
    assert [axis.get_title("left") for axis in figure.axes] == ["a", "b", "c", "d", "e", "f"]


def test_choices_on_the_axis_stand_apart_and_are_not_joined(grid):
    (axis,) = draw_table(table(*grid)).axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["countdown", "maze"]
    awr, label = lines(axis)["awr"], lines(axis)["label"]
    assert awr.get_linestyle() == "None"
    assert not set(awr.get_xdata()) & set(label.get_xdata())
    assert awr.get_ydata() == pytest.approx([0.77, 0.97])


def test_every_choice_on_the_axis_is_in_view(tmp_path):
    """Also where nothing is drawn, as without a floor or a mean at the end."""
    folders = [
        write(tmp_path / f"{env}{name}", env=env, objective=name)
        for env, name in (("countdown", "awr"), ("maze", "awr"), ("graph", "ppo"))
    ]
    for folder in folders:
        (folder / "eval/eval.json").unlink()
    (folders[2] / "summary.json").unlink()
    for metric in ("solved", "seconds"):
        (axis,) = draw_table(table(*folders, metric=metric)).axes
        assert axis.get_xlim() == (-0.5, 2.5)


def test_more_rows_than_lines_that_look_different_are_refused(tmp_path):
    folders = [write(tmp_path / f"{i}", objective=f"o{i}") for i in range(37)]
    draw_table(table(*folders[:36]))
    with pytest.raises(UserError, match=r"37 rows to draw, and only 36 lines look different"):
        draw_table(table(*folders))
