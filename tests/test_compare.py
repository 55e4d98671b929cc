"""Comparisons: at equal cost, with intervals and tests that slow references confirm."""

import itertools
import json
import sys
from math import comb

import numpy as np
import pytest
import scipy.stats
from pir.analysis.figures.style import save_figure
from pir.analysis.pages.compare_view import as_json, as_text, draw_comparison, verdict
from pir.analysis.pages.report import report
from pir.analysis.reading.groups import group_by_seed
from pir.analysis.reading.runs import Run
from pir.analysis.statistics.compare import compare
from pir.analysis.statistics.resampling import (
    bootstrap_interval,
    permutation_test,
    sign_flip_test,
    smallest_p,
)
from pir.analysis.statistics.table import make_table

from pir.cli.main import main
from pir.errors import UserError
from tests.run_folders import EASY, NEVER, PASSES, SLOW, STEPS, TRAINED, write_run

PUZZLES = EASY + SLOW + NEVER


def runs(*folders):
    return [Run(folder) for folder in folders]


def set_passes(folder, passes_per_step):
    """Makes every step of a run dearer or cheaper."""
    path = folder / "eval/per_step.csv"
    header, *rows = path.read_text().splitlines()
    changed = []
    for k, row in enumerate(rows, start=1):
        cells = row.split(",")
        cells[1] = str(passes_per_step * k)
        changed.append(",".join(cells))
    path.write_text("\n".join([header, *changed]) + "\n")


# ---------------------------------------------------------------- the statistics


def test_sign_flips_against_enumeration():
    differences = np.array([0.5, -0.2, 0.0, 0.9, 0.4, 0.4, -0.1])
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=7)]
    expected = np.mean([value >= abs(differences.sum()) - 1e-9 for value in sums])
    assert sign_flip_test(differences) == pytest.approx(expected)
    assert sign_flip_test(np.zeros(5)) == 1.0


def test_sampled_sign_flips_come_near_the_binomial():
    """With 30 puzzles won and 12 lost the test is a sign test, whose p is a binomial sum."""
    differences = np.repeat([1.0, -1.0, 0.0], [30, 12, 500])
    exact = 2 * sum(comb(42, i) for i in range(13)) / 2**42
    assert sign_flip_test(differences) == pytest.approx(exact, abs=0.004)
    assert sign_flip_test(differences) == sign_flip_test(differences)


def test_permutations_against_enumeration():
    first, second = np.array([0.1, 0.4, 0.35]), np.array([0.5, 0.45, 0.7, 0.2])
    pooled = np.concatenate([first, second])
    observed = abs(second.mean() - first.mean())
    extreme = [
        abs(pooled[list(rest)].mean() - pooled[list(chosen)].mean()) >= observed - 1e-9
        for chosen in itertools.combinations(range(7), 3)
        for rest in [tuple(set(range(7)) - set(chosen))]
    ]
    assert permutation_test(first, second) == pytest.approx(np.mean(extreme))


def test_the_smallest_p_is_reached_by_samples_apart():
    for n, m in ((2, 2), (3, 3), (2, 4)):
        assert permutation_test(np.arange(n) * 0.01, 5 + np.arange(m) * 0.01) == pytest.approx(
            smallest_p(n, m)
        )
    many = np.arange(10) * 0.01  # more arrangements than are tried
    assert permutation_test(many, 5 + many) >= smallest_p(10, 10) == 1 / 10001


def test_sampled_permutations_keep_their_level():
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=40), rng.normal(size=30)
    assert permutation_test(first, second) > 0.05
    assert permutation_test(first, second + 2) < 0.001


def test_bootstrap_against_the_normal_approximation():
    values = np.random.default_rng(1).normal([0.0, 3.0], size=(400, 2))
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std(0) / 20
    assert low == pytest.approx(values.mean(0) - half, abs=0.02)
    assert high == pytest.approx(values.mean(0) + half, abs=0.02)
    low, high = bootstrap_interval(values[:, :1], values[:100, 1:])
    half = 1.96 * np.hypot(values[:, 0].std() / 20, values[:100, 1].std() / 10)
    assert (high - low) / 2 == pytest.approx([half], rel=0.12)


def test_against_scipy():
    """The same seed gives scipy the same samples, where it draws them in the same order."""
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(2, 60, 3))
    expected = scipy.stats.bootstrap(
        (first, second),
        lambda x, y, axis: y.mean(axis) - x.mean(axis),
        n_resamples=2000,
        method="percentile",
        rng=0,
    ).confidence_interval
    low, high = bootstrap_interval(first, second)
    assert low == pytest.approx(expected.low)
    assert high == pytest.approx(expected.high)
    for n, m in ((2, 5), (4, 4), (6, 7), (60, 60)):
        x, y = rng.normal(size=n), rng.normal(size=m)
        expected = scipy.stats.permutation_test(
            (x, y),
            lambda x, y, axis: abs(y.mean(axis) - x.mean(axis)),
            n_resamples=10_000,
            alternative="greater",
            rng=0,
        )
        assert permutation_test(x, y) == pytest.approx(expected.pvalue)
    for n in (3, 8, 13):
        x = rng.normal(size=n)
        expected = scipy.stats.permutation_test(
            (x,),
            lambda x, axis: abs(x.sum(axis)),
            permutation_type="samples",
            n_resamples=10_000,
            alternative="greater",
        )
        assert sign_flip_test(x) == pytest.approx(expected.pvalue)


# ---------------------------------------------------------------- runs


@pytest.fixture
def pair(tmp_path):
    return write_run(tmp_path / "a"), write_run(tmp_path / "b", lost=30, model="other")


def test_single_runs_are_paired_over_puzzles(pair):
    result = compare(runs(*pair), "solved")
    (change,) = result.differences
    assert (change.over, change.paired, change.units) == ("puzzles", True, (PUZZLES, PUZZLES))
    assert result.budgets.tolist() == [PASSES * (k + 1) for k in range(STEPS)]
    assert result.budgets[result.common] == PASSES * TRAINED
    assert change.difference.tolist() == pytest.approx([0, 0, 0, 0, -0.15, -0.15])
    assert change.p == 1.0
    assert change.low[4] < -0.15 < change.high[4] < 0
    # 30 of 200 differ: the interval of a share
    assert change.high[4] - change.low[4] == pytest.approx(2 * 1.96 * 0.357 / 200**0.5, rel=0.1)
    words = "No difference was found, other minus trm: +0.0 points"
    assert verdict(result, change).startswith(words)


def test_a_difference_is_found_and_named(pair):
    for folder in pair:
        facts = json.loads((folder / "eval/eval.json").read_text())
        (folder / "eval/eval.json").write_text(json.dumps(facts | {"trained_steps": 5}))
    result = compare(runs(*pair), "solved")
    (change,) = result.differences
    assert change.p == pytest.approx(1e-4, rel=0.01)
    words = verdict(result, change)
    assert words.startswith("They differ, other is lower than trm: -15.0 points (95 % interval -20")
    assert ", p < 0.001). Interval" in words
    assert "over the same 200 puzzles, paired. They say nothing about other seeds." in words


def test_equal_cost_and_not_equal_steps(pair):
    """Five passes a step against three: at nine passes one has taken three steps, the other one."""
    set_passes(pair[1], 5)
    result = compare(runs(*pair), "solved")
    assert result.budgets.tolist() == [5, 6, 9, 10, 12, 15, 18]
    (row,) = [row for row in as_json(result)["differences"][0]["budgets"] if row["budget"] == 9]
    assert (row["first_step"], row["second_step"]) == (3, 1)
    assert row["difference"] == pytest.approx(0.6 - 0.8)
    assert as_json(result)["budget"] == 9
    assert "At 9 forward passes (trm at step 3, other at step 1)" in as_text(result)


def test_a_run_whose_first_step_is_dear(pair):
    set_passes(pair[1], 100)
    result = compare(runs(*pair), "solved")
    assert result.budgets.tolist() == [100]
    assert result.differences[0].difference == pytest.approx([0.6 - 0.8])


def test_other_puzzles_are_not_paired(tmp_path):
    first = write_run(tmp_path / "a")
    second = write_run(tmp_path / "b", model="x", puzzles=[f"other {i}" for i in range(PUZZLES)])
    result = compare(runs(first, second), "score")
    (change,) = result.differences
    assert (change.over, change.paired) == ("puzzles", False)
    said = " ".join(as_text(result).split())
    assert "unpaired: the runs were evaluated on different ones (200 and 200)" in said


def test_several_seeds_are_compared_over_seeds(tmp_path):
    first = [write_run(tmp_path / f"a{i}", seed=i, lost=i) for i in (1, 2, 3)]
    second = [write_run(tmp_path / f"b{i}", seed=i, lost=60 + i, model="x") for i in (1, 2, 3)]
    for folder in (*first, *second):
        facts = json.loads((folder / "eval/eval.json").read_text())
        (folder / "eval/eval.json").write_text(json.dumps(facts | {"trained_steps": 6}))
    result = compare(runs(*first, *second), "solved")
    (change,) = result.differences
    assert (change.over, change.units) == ("seeds", (3, 3))
    assert change.difference[-1] == pytest.approx(-60 / 200)
    assert change.p == pytest.approx(0.1)
    words = verdict(result, change)
    assert "over seeds, 3 against 3." in words
    assert "cannot give a p below 0.1: more seeds are needed to tell." in words
    assert as_json(result)["groups"][0]["training_forward_passes"] == 2000


def test_several_seeds_against_one_are_over_puzzles(tmp_path):
    folders = [write_run(tmp_path / f"a{i}", seed=i, lost=i) for i in (1, 3)]
    folders.append(write_run(tmp_path / "b", model="x"))
    (change,) = compare(runs(*folders), "solved").differences
    assert (change.over, change.paired, change.units) == ("puzzles", True, (PUZZLES, PUZZLES))
    assert change.difference[-1] == pytest.approx(2 / 200)


def evaluated_otherwise(folder, **facts):
    file = folder / "eval/eval.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | facts))


def test_evaluations_made_otherwise_are_no_seeds(tmp_path):
    """Noise, another precision or other puzzles: neither averaged nor compared as if alike."""
    runs = [Run(write_run(tmp_path / f"a_{seed}", seed=seed)) for seed in (1, 2)]
    assert len(group_by_seed(runs)) == 1
    for facts in ({"step_noise": 0.5}, {"dtype": "bfloat16"}):
        evaluated_otherwise(runs[1].folder, **facts)
        again = [Run(run.folder) for run in runs]
        assert len(group_by_seed(again)) == 2
        table = make_table(again, ["model"], ["env"], "eval.live_depth")
        assert len(table.rows) == 2
        (name, value) = next(iter(facts.items()))
        assert f"{name} {value}" in report(again[1])
    evaluated_otherwise(runs[1].folder, changed={"clues": [24, 25]})
    with pytest.raises(UserError, match=r"another puzzles of each: .*env\.clues=\[24, 25\]"):
        compare([Run(run.folder) for run in runs], "solved")


def test_all_groups_against_the_first(tmp_path):
    names = ("c", "a", "b")
    folders = [write_run(tmp_path / name, model=name) for name in names]
    result = compare(runs(*folders), "kl")
    labels = [(c.first.group.label, c.second.group.label) for c in result.differences]
    assert labels == [("c", "a"), ("c", "b")]
    assert "(nats per cell)" in as_text(result).splitlines()[0]


def test_what_cannot_be_compared_is_refused(pair, tmp_path):
    with pytest.raises(UserError, match=r"metric=solvd is none of .*did you mean solved"):
        compare(runs(*pair), "solvd")
    elsewhere = write_run(tmp_path / "elsewhere", env="maze")
    with pytest.raises(UserError, match=r"another env each: .*a \(countdown\) and .*\(maze\)"):
        compare(runs(pair[0], elsewhere), "solved")
    with pytest.raises(UserError, match="nothing to compare"):
        compare(runs(pair[0], write_run(tmp_path / "seed2", seed=2)), "solved")
    unlabelled = write_run(tmp_path / "unlabelled", model="other", labels=False)
    with pytest.raises(UserError, match="metric=log_prob_gain is undefined for other"):
        compare(runs(pair[0], unlabelled), "log_prob_gain")
    with np.load(pair[1] / "eval/steps.npz") as content:
        kept = {name: content[name] for name in content.files if name != "kl"}
    np.savez(pair[1] / "eval/steps.npz", **kept)
    with pytest.raises(UserError, match="metric=kl has no value per puzzle"):
        compare(runs(*pair), "kl")
    (pair[1] / "eval/steps.npz").unlink()
    with pytest.raises(UserError, match=r"steps\.npz is missing: `pir eval run="):
        compare(runs(*pair), "solved")


def test_unequal_numbers_are_compared_on_the_puzzles_they_share(pair):
    count = 50
    with np.load(pair[1] / "eval/steps.npz") as content:
        cut = {name: content[name][:count] for name in content.files}
    np.savez(pair[1] / "eval/steps.npz", **cut)
    rows = (pair[1] / "eval/per_puzzle.csv").read_text().splitlines(keepends=True)
    (pair[1] / "eval/per_puzzle.csv").write_text("".join(rows[: count + 1]))
    facts = json.loads((pair[1] / "eval/eval.json").read_text())
    (pair[1] / "eval/eval.json").write_text(json.dumps(facts | {"puzzles": count}))
    result = compare(runs(*pair), "score")
    (change,) = result.differences
    with np.load(pair[0] / "eval/steps.npz") as content:
        first = content["score"][:count].astype(float)
    step = result.sides[0].step(result.budgets[result.common])
    expected = cut["score"][:, step].astype(float).mean() - first[:, step].mean()
    assert change.units == (count, count)
    assert change.paired
    assert change.difference[result.common] == pytest.approx(expected)
    shown = [side.values[0, step] for side in result.sides]
    assert shown[1] - shown[0] == pytest.approx(expected)
    assert "on the first 50 puzzles" in as_text(result)


def test_the_same_run_twice_does_not_differ(pair):
    result = compare(runs(pair[0], pair[0]), "solved")
    assert result.differences[0].p == 1.0
    assert not result.differences[0].difference.any()


def test_missing_costs_of_training_are_dashes(pair):
    (pair[1] / "summary.json").unlink()
    result = compare(runs(*pair), "solved")
    assert as_json(result)["groups"][1]["training_seconds"] is None
    assert "other: – forward passes, – seconds (b)" in as_text(result)


def test_unequal_budgets_are_told(pair):
    assert "\nTraining:\n" in as_text(compare(runs(*pair), "solved"))
    path = pair[1] / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 6000}))
    text = as_text(compare(runs(*pair), "solved"))
    assert "Training, unequal budgets, 1 to 100 minutes:" in text


def test_by_command(pair, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    words = ["compare", f"runs={pair[0]} {pair[1]}", "metric=score", f"out={tmp_path}/c.svg"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert text.startswith("score ([0, 1]): the verifier's graded value")
    first = (tmp_path / "c.svg").read_bytes()
    assert main([*words, "output=json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["differences"][0]["verdict"] in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80
    assert (tmp_path / "c.svg").read_bytes() == first
    assert main(["compare", f"runs={pair[0]}", "output=xml"]) == 2
    assert "output=xml: allowed are text, json" in capsys.readouterr().err


def test_figure_shows_the_differences(pair, tmp_path):
    figure = draw_comparison(compare(runs(*pair), "solved"))
    curve = figure.axes[0].get_lines()[-1]
    assert curve.get_ydata() == pytest.approx([0, 0, 0, 0, -0.15, -0.15])
    save_figure(figure, tmp_path / "out.png")
