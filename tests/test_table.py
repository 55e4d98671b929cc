"""Tables of many runs, as text: no mean over unlike ones."""

import json
import math

import numpy as np
import pytest
from pir.analysis.pages.table_view import as_json, as_markdown, as_text
from pir.analysis.reading.runs import Run
from pir.analysis.statistics.table import make_table
from pir.analysis.words import millions

from pir.errors import UserError
from pir.runs.names import find_runs
from tests.run_folders import write_run


def change_json(path, **content):
    path.write_text(json.dumps(json.loads(path.read_text()) | content))


def write(folder, solved=0.8, **settings):
    """Writes a run whose summary says that so many puzzles are solved."""
    write_run(folder, extra=False, **settings)
    change_json(folder / "summary.json", solved=solved)
    return folder


def table(*folders, rows=("objective",), columns=("env",), metric="solved"):
    return make_table([Run(folder) for folder in folders], rows, columns, metric)


def write_grid(folder):
    """Two objectives on two puzzles: two seeds each, but for one with three and one with one."""
    shares = {
        ("awr", "countdown"): (0.70, 0.75, 0.86),
        ("awr", "maze"): (0.95, 0.99),
        ("label", "countdown"): (0.60, 0.62),
        ("label", "maze"): (0.5,),
    }
    return [
        write(folder / f"{name}_{env}_{seed}", solved, objective=name, env=env, seed=seed)
        for (name, env), values in shares.items()
        for seed, solved in enumerate(values, start=1)
    ]


@pytest.fixture
def grid(tmp_path):
    return write_grid(tmp_path)


# ---------------------------------------------------------------- means and intervals


def test_means_and_intervals_over_seeds(grid):
    result = table(*grid)
    values = np.array([0.70, 0.75, 0.86])
    half = 4.302653 * math.sqrt(((values - values.mean()) ** 2).sum() / 2) / math.sqrt(3)
    cell = result.cells[0, 0]
    assert cell.mean == pytest.approx(values.mean())
    assert cell.interval == pytest.approx((values.mean() - half, values.mean() + half))
    low, high = result.cells[0, 1].interval
    assert low == pytest.approx(0.97 - 12.7062 * 0.02, abs=1e-4)
    assert high == 1.0
    assert result.cells[1, 1].interval == (0.738, 0.850)  # of its summary


def test_the_best_of_a_column_is_the_least_where_less_is_better(grid):
    def best(result):
        return [place for place in result.cells if result.is_best(*place)]

    assert best(table(*grid)) == [(0, 0), (0, 1)]
    assert best(table(*grid, metric="seconds")) == [(1, 0), (1, 1)]
    assert best(table(*grid[:5])) == []
    assert table(*grid, metric="seconds").cells[0, 0].interval[0] < 0
    ties = [place for place in table(*grid).cells if table(*grid).is_tie(*place)]
    assert ties == [(1, 0), (1, 1)]
    for folder in grid[5:7]:  # label, countdown: its interval is 48.3 to 73.7 %
        change_json(folder / "summary.json", solved=0.01)
    assert not table(*grid).is_tie(1, 0)


def test_unequal_budgets_are_told_unless_they_name_the_rows(grid):
    told = "Budgets of countdown are unequal: 1,500 to 2,000 forward passes and 1.5 to 2 minutes."
    assert told in as_text(table(*grid), "pir table", 200)
    assert "unequal" not in as_text(table(*grid[:2], *grid[5:7]), "pir table", 200)
    assert "unequal" not in as_text(table(*grid, metric="seconds"), "pir table", 200)


def rows_of(result):
    return [", ".join(row.values()) for row in result.rows]


# ---------------------------------------------------------------- runs that differ


def test_the_same_seed_twice_is_refused(grid, tmp_path):
    again = write(tmp_path / "again", objective="awr", seed=2)
    with pytest.raises(UserError, match=r"awr_countdown_2 and .*again have the same .* seed, 2"):
        table(*grid, again)


def test_rows_and_columns_by_any_settings(grid):
    result = table(*grid, rows=("env", "objective.name"), columns=("seed",))
    assert rows_of(result)[0] == "countdown, awr"
    header, first = as_markdown(result, "pir table").splitlines()[:3:2]
    assert header == "| env, `objective.name` | `seed=1` | `seed=2` | `seed=3` |"
    assert first.startswith("| countdown, awr | 70.0 % (73.8 to 85.0 %), one seed | 75.0 %")
    with pytest.raises(UserError, match=r"rows=objective.nam is no .* mean objective.name\?"):
        table(*grid, rows=("objective.nam",))
    with pytest.raises(UserError, match=r"columns=evn is no .* mean env\?"):
        table(*grid, columns=("evn",))
    with pytest.raises(UserError, match=r"metric=solvd is a number of none .* mean solved\?"):
        table(*grid, metric="solvd")
    with pytest.raises(UserError, match=r"mean eval.live_depth\?"):
        table(*grid, metric="eval.live_depht")


# ---------------------------------------------------------------- as text


def test_numbers_are_in_order_and_other_settings_as_they_come(tmp_path):
    folders = [
        write(tmp_path / f"{env}_{lanes}", env=env, settings=f"trainer: {{lanes: {lanes}}}\n")
        for lanes in (16, 2, 128)
        for env in ("maze", "countdown")
    ]
    folders.append(write(tmp_path / "without", env="maze"))
    result = table(*folders, rows=["trainer.lanes"], columns=["env", "trainer.lanes"])
    lanes = ["2", "16", "128", "–"]
    assert [row["trainer.lanes"] for row in result.rows] == lanes
    assert [tuple(column.values()) for column in result.columns] == [
        *(("maze", value) for value in lanes),
        *(("countdown", value) for value in lanes[:-1]),
    ]


def test_markdown_as_it_is_pasted(grid):
    (grid[0] / "info.json").write_text(json.dumps({"commit": "0123456789ab+changes"}))
    assert as_markdown(table(*grid), "pir table runs=x").splitlines() == [
        "| objective | countdown | maze |",
        "| --- | --- | --- |",
        "| awr | **77.0 %** (56.7 to 97.3 %), 3 seeds | **97.0 %** (71.6 to 100.0 %), 2 seeds |",
        "| label | 61.0 % = (48.3 to 73.7 %), 2 seeds | 50.0 % = (73.8 to 85.0 %), one seed |",
        "| floor: random answers | 2.3 % | 2.3 % |",
        "| training forward passes | 0.001 M to 0.003 M | 0.001 M to 0.002 M |",
        "",
        "`solved`: mean over seeds; 95 % intervals by Student's t over seeds; of one seed Wilson's "
        "over its puzzles, which says nothing of other seeds; bold: best of its column; "
        "=: a tie, as its interval overlaps that of the best. "
        "Budgets of countdown are unequal: 1,500 to 2,000 forward passes and 1.5 to 2 minutes. "
        "Budgets of maze are unequal: 1,000 to 1,500 forward passes and 1 to 1.5 minutes.",
        "",
        "`pir table runs=x`: 8 runs, commits 0123456+changes (1) and abc1234 (7).",
    ]


def test_text_is_aligned(grid):
    lines = as_text(table(*grid, metric="seconds"), "pir table").splitlines()
    assert lines[0].split() == ["objective", "countdown", "maze"]
    assert lines[1].index("90") == lines[0].index("maze")
    assert lines[2].split("  ")[-2:] == ["90 * (-291 to 471), 2 seeds", "60 *, one seed"]
    assert "floor" not in "".join(lines)
    assert lines[-1] == "pir table: 8 runs, commit abc1234."


def test_json_for_programs(grid):
    content = as_json(table(*grid), "pir table")
    first = content["cells"][0]
    assert (first["row"], first["column"]) == ({"objective": "awr"}, {"env": "countdown"})
    assert (first["seeds"], first["best"], first["interval_over"]) == (3, True, "seeds")
    assert first["values"] == [0.70, 0.75, 0.86]
    assert first["runs"] == [str(folder) for folder in grid[:3]]
    assert content["cells"][-1]["interval_over"] == "puzzles"
    assert content["columns"][1] == {
        "column": {"env": "maze"},
        "masked_random": (0.023, 0.023),
        "training_forward_passes": (1000, 2000),
    }
    json.dumps(content)


def test_bars_and_counts():
    assert [millions(n) for n in (4e5, 921_600, 1.2e9)] == ["0.4 M", "0.922 M", "1,200 M"]


def test_a_bar_in_a_setting_stays_in_its_cell(tmp_path):
    markdown = as_markdown(table(write(tmp_path / "a", objective="'a|b'")), "pir table")
    assert markdown.splitlines()[2].startswith(r"| a\|b | 80.0 %")
    foreign = write(tmp_path / "b", objective="'<img src=x>'")  # a stranger's word is no HTML
    assert "| &lt;img src=x&gt; | 80.0 %" in as_markdown(table(foreign), "pir table runs=<x>")


# ---------------------------------------------------------------- what is missing


def test_missing_values_are_dashes_and_no_seeds(grid):
    for folder in (grid[1], *grid[5:]):
        (folder / "summary.json").unlink()
    (grid[0] / "eval/eval.json").unlink()  # a run that has no evaluation is no other run
    result = table(*grid)
    assert result.cells[0, 0].values == [0.70, 0.86]
    text = as_text(result, "pir table", 200)
    assert text.splitlines()[2].split() == ["label", "–", "–"]
    assert f"Without solved: {grid[1]}, {grid[5]}, {grid[6]} and 1 more." in " ".join(text.split())
    assert as_json(result, "")["cells"][-1]["mean"] is None
    for folder in grid:
        (folder / "eval/eval.json").unlink(missing_ok=True)
    assert "floor" not in as_text(table(*grid), "pir table")


def test_numbers_of_the_evaluation(grid):
    for i, folder in enumerate(grid[:5]):
        change_json(folder / "eval/eval.json", coverage=0.3 + 0.1 * i)
    (grid[2] / "eval/eval.json").unlink()
    result = table(*grid, metric="eval.coverage")
    assert rows_of(result) == ["awr", "label"]
    assert result.cells[0, 0].mean == pytest.approx(0.35)
    assert result.floor(0) is None
    assert "**35.0 %** (" not in as_markdown(result, "")  # there is no other to be better than
    change_json(grid[1] / "eval/eval.json", split="val")
    split = table(*grid, metric="eval.coverage")
    assert [", ".join(row.values()) for row in split.rows] == [
        "awr, test", "awr, val", "awr, –", "label",
    ]  # fmt: skip
    nested = table(*grid, metric="eval.one_blank.solved")
    assert nested.cells[1, 0].mean == pytest.approx(0.99)
    assert nested.share


# ---------------------------------------------------------------- by command


def test_by_command(pir_here, tiny_run, tmp_path):
    solved = json.loads((tiny_run / "summary.json").read_text())["solved"]
    out = tmp_path / "of = all.md"
    words = ["table", f"runs={tiny_run.parent}/*", "rows=[objective,trainer.batch_size]"]
    done = pir_here(*words, "output=markdown", f"out={out}")
    assert done.stdout == out.read_text(encoding="utf-8")
    assert done.stderr.strip() == str(out)
    assert f"| set_likelihood, 16 | {100 * solved:.1f} % (" in done.stdout
    command = "'rows=[objective,trainer.batch_size]' columns=env metric=solved`: 1 run, commit"
    assert command in done.stdout
    content = json.loads(pir_here(*words, "output=json", "metric=eval.coverage").stdout)
    assert content["cells"][0]["seeds"] == 1
    titled = ["label=mine, all of it", "title=Every run"]
    refused = pir_here("table", f"runs={tiny_run}", *titled, code=2).stderr
    assert "label=mine, all of it: 2 names for 1: set_likelihood" in refused
    text = pir_here("table", f"runs={tiny_run}", 'label=["mine, all of it"]', titled[1]).stdout
    assert text.startswith("Every run\n\nobjective ")
    assert "\nmine, all of it  " in text
    text = pir_here("table", f"runs={tiny_run}").stdout
    assert text.startswith("objective ")
    refused = pir_here("table", f"runs={tiny_run}", "out=x.txt", code=2).stderr
    assert "out=x.txt: the ending must be one of .md, .png, .pdf, .svg" in refused
    pir_here("table", f"runs={tiny_run}", f"out={tmp_path / 'table.png'}")
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")
    assert "runs= must be given" in pir_here("table", code=2).stderr
    assert "  pir table " in pir_here("--help").stdout


def test_runs_without_an_end_are_found(tmp_path):
    folders = [write(tmp_path / f"runs/{seed}", seed=seed) for seed in (1, 2)]
    (folders[1] / "summary.json").unlink()
    (folders[1] / "eval/eval.json").unlink()
    result = table(*find_runs(f"{tmp_path}/runs/*"))
    assert result.lacking == [str(folders[1])]
    assert len(result.cells[0, 0].values) == 1
