"""Figures and their sentences where data are unusual: they say no more than is so."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pir.analysis.figures.kinds import KINDS
from pir.analysis.reading.runs import Run
from pir.analysis.words import between, number, percent

from pir.evaluation.measurements import strata
from tests.run_folders import write_csv, write_run


def change_facts(folder, **facts):
    file = folder / "eval/eval.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))


# ---------------------------------------------------------------- difficulty


def strata_of(ratings):
    """Returns lowest rating, highest rating and size of the groups of puzzles so rated."""
    values = {name: torch.zeros(len(ratings), 1) for name in ("solved", "score", "gain", "dead")}
    run = SimpleNamespace(
        rating=torch.tensor(ratings, dtype=torch.float32),
        result=SimpleNamespace(values=values),
        num_steps=1,
        passes=3,
    )
    return [(row["rating_low"], row["rating_high"], row["puzzles"]) for row in strata(run).rows]


@pytest.mark.parametrize(
    ("ratings", "groups"),
    [
        ([1, 2, 3, 4], [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 4, 1)]),
        ([0] * 90 + [5] * 4 + [22] * 6, [(0, 0, 90), (5, 22, 10)]),
        ([0] * 60 + [1] * 40, [(0, 0, 60), (1, 1, 40)]),
        ([7] * 5, [(7, 7, 5)]),
    ],
)
def test_puzzles_harder_than_most_are_a_group(ratings, groups):
    assert strata_of(ratings) == groups


def test_puzzles_are_called_equally_hard_only_if_they_are(tmp_path):
    def said(low, high):
        folder = write_run(tmp_path / f"{high}")
        row = {"stratum": 1, "rating_low": low, "rating_high": high, "puzzles": 9, "k": 3}
        write_csv(folder / "eval/strata.csv", [row | {"solved": 0.5}])
        return KINDS["difficulty"].describe(Run(folder))

    assert said(3, 3).startswith("The puzzles are equally hard (answers 3); at the trained")
    assert said(0, 22).startswith("The puzzles are one group (answers 0 to 22); at the trained")


# ---------------------------------------------------------------- step sizes


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (2, "With steps after step 2 scaled, at step 3 no step size of 0.5 to 2 solves"),
        (4, "With steps after step 4 scaled, at step 6 no step size of 0.5 to 2 solves"),
        (6, "No step is scaled: there are 6, and scaling begins after step 6."),
    ],
)
def test_a_sweep_of_step_sizes_says_from_which_step_on_they_hold(tmp_path, after, said):
    run = Run(write_run(tmp_path / "a"))
    assert KINDS["step-size"].draw([run]).axes[0].get_title("left") == "every step scaled"
    change_facts(run.folder, damping_after=after)
    run = Run(run.folder)
    title = KINDS["step-size"].draw([run]).axes[0].get_title("left")
    assert title == f"every step after step {after} scaled"
    assert KINDS["step-size"].describe(run).startswith(said)


# ---------------------------------------------------------------- numbers as text


def test_some_are_not_none_and_most_are_not_all():
    shares = (0.0, 0.004, 0.5, 0.9999, 1.0, float(np.float32(1) - np.float32(6e-8)))
    assert [percent(share, 0) for share in shares] == [
        "0 %", "< 1 %", "50 %", "> 99 %", "100 %", "100 %",
    ]  # fmt: skip
    assert [percent(share) for share in (0.0004, 0.0006, 0.9996, -0.0001, 1.00004)] == [
        "< 0.1 %", "0.1 %", "> 99.9 %", "-0.0 %", "100.0 %",
    ]  # fmt: skip


def test_numbers_that_are_nearly_round():
    assert [number(value) for value in (999.7, -999.7, 999.4, 999_999.7, 9.997e8, 999_999)] == [
        "1,000", "-1,000", "999", "1 million", "1 billion", "999,999",
    ]  # fmt: skip
    assert number(2.5e12) == "2,500 billion"
    assert [between(0.1234, 0.12341), between(3, 5)] == ["0.123", "3 to 5"]


def test_at_least_is_never_rounded_up(tmp_path):
    folder = write_run(tmp_path / "run")
    rows = [{"k": k, "gain": 0.1, "dead": dead} for k, dead in ((1, 0.2), (2, 0.9538), (3, 0.99))]
    write_csv(folder / "eval/per_step.csv", rows)
    sentence = KINDS["waterfall"].describe(Run(folder))
    assert sentence.endswith("steps 2 to 3 are dead for at least 95.3 % of puzzles.")


# ---------------------------------------------------------------- one step


@pytest.mark.parametrize("kind", ["waterfall", "difficulty", "improvement", "dead-compute"])
def test_numbers_of_steps_are_whole(tmp_path, kind):
    """With a single step too."""
    run = Run(write_run(tmp_path / "a"))
    for file in ("eval/per_step.csv", "eval/per_outcome.csv", "eval/strata.csv", "improvement.csv"):
        rows = csv.DictReader((run.folder / file).read_text().splitlines())
        write_csv(run.folder / file, [row for row in rows if row["k"] == "1"])
    with np.load(run.folder / "eval/steps.npz") as content:
        values = {name: content[name] for name in content.files}
    cut = {name: array if array.ndim == 1 else array[:, :1] for name, array in values.items()}
    np.savez(run.folder / "eval/steps.npz", **cut)
    change_facts(run.folder, trained_steps=1, improvement_steps=1)
    for axis in KINDS[kind].figure([Run(run.folder)]).axes:
        for name, ticks in (
            (axis.get_xlabel(), axis.get_xticks()),
            (axis.get_ylabel(), axis.get_yticks()),
        ):
            if name.startswith("improvement step k"):
                assert np.all(ticks == np.round(ticks)), ticks
