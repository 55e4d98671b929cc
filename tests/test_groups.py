"""Which runs are seeds of each other, what is told of those that are not, and many at once."""

import json

import pytest
from pir.analysis.figures.passes import training_curve
from pir.analysis.pages.compare_view import as_text, verdict
from pir.analysis.reading.groups import group_by_seed
from pir.analysis.reading.runs import Run
from pir.analysis.statistics.compare import compare

from pir.runs.names import find_runs
from tests.run_folders import write_csv, write_run
from tests.test_compare import set_passes


def choose(folder, words):
    """Adds choices to a run's settings."""
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("choices: {", f"choices: {{{words}, "))


def test_recipes_that_set_the_same_part_no_seeds(tmp_path):
    """A version that notes one choice more, or a recipe under another name, is no other method."""
    folders = [write_run(tmp_path / f"a{seed}", seed=seed) for seed in (1, 2, 3)]
    choose(folders[1], "recipe_objective: countdown_awr")
    choose(folders[2], "recipe: mine, experiment: mine")
    other = write_run(tmp_path / "b", objective="awr")
    groups = group_by_seed([Run(folder) for folder in (*folders, other)])
    assert [group.label for group in groups] == ["set likelihood (3 seeds)", "awr"]


def test_passes_of_a_group_are_those_of_all_its_seeds(tmp_path):
    """Seeds of one method do not cost the same: batches follow the memory, say."""
    folders = [write_run(tmp_path / f"a{seed}", seed=seed) for seed in (1, 2)]
    for folder, cost in zip(folders, (90, 120), strict=True):
        rows = [{"optimizer_step": s, "forward_passes": cost * s} for s in (100, 400)]
        write_csv(folder / "metrics.csv", rows)
    (group,) = group_by_seed([Run(folder) for folder in folders])
    assert training_curve(group).passes == pytest.approx([10_500, 21_000, 42_000])


def test_groups_on_other_puzzles_are_told(tmp_path):
    """Over seeds too: the difference may be that of the puzzles."""
    others = [f"other {i}" for i in range(200)]
    alike, apart = (
        [
            write_run(tmp_path / f"{name}{seed}", seed=seed, model=name, puzzles=puzzles)
            for seed in (1, 2)
        ]
        for name, puzzles in (("b", None), ("c", others))
    )
    first = [write_run(tmp_path / f"a{seed}", seed=seed) for seed in (1, 2)]
    result = compare([Run(folder) for folder in (*first, *alike, *apart)], "solved")
    words = [verdict(result, change) for change in result.differences]
    assert ["different puzzles" in each for each in words] == [False, True]
    (first[0] / "eval/per_puzzle.csv").unlink()  # not known then, and no reason to stop
    assert compare([Run(folder) for folder in (*first, *apart)], "solved").differences


def test_a_comparison_is_no_wider_than_a_terminal(tmp_path):
    folders = [write_run(tmp_path / name, model=f"{name}_with_a_long_name") for name in "ab"]
    for folder in folders:
        file = folder / "eval/eval.json"
        facts = json.loads(file.read_text())
        facts["statistics"][0]["meaning"] = "a meaning of many words " * 5
        facts["trained_steps"] = 2  # at a budget that is not shown anyway, so there are six
        file.write_text(json.dumps(facts))
    set_passes(folders[1], 5)
    lines = as_text(compare([Run(folder) for folder in folders], "solved")).splitlines()
    assert max(map(len, lines)) <= 80
    (budgets,) = [line for line in lines if line.startswith("up to so many")]
    assert budgets.split()[-6:] == ["5", "6", "9", "10", "12", "18"]


def test_very_many_folders_may_be_named(tmp_path):
    """A list of them is longer than a path can be."""
    folders = [write_run(tmp_path / f"a{i}", extra=False) for i in (1, 2)]
    assert find_runs(" ".join(str(folder) for folder in folders * 200)) == folders
