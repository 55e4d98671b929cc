"""What tells that a step harms: the area under the ROC curve, and its use on a run."""

import itertools

import numpy as np
import pytest
from pir.analysis.figures import harm
from pir.analysis.figures.kinds import KINDS
from pir.analysis.pages.report import report
from pir.analysis.reading.runs import Run
from pir.analysis.statistics.auroc import FEWEST, auroc
from scipy.special import logit
from scipy.stats import mannwhitneyu, norm

from tests.run_folders import write_run


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_area_is_the_share_of_pairs_in_order(digits):
    """Ties, which rounding makes, count as half; scipy's U statistic says the same."""
    rng = np.random.default_rng(0)
    numbers = np.round(rng.normal(size=60), digits)
    positive = rng.random(60) < 0.3
    pairs = list(itertools.product(numbers[positive], numbers[~positive]))
    slow = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
    found = auroc(numbers, positive)
    assert found.area == pytest.approx(slow)
    u = mannwhitneyu(numbers[positive], numbers[~positive]).statistic
    assert found.area == pytest.approx(u / len(pairs))
    assert found.low < found.area < found.high


def test_the_interval_holds_the_true_area():
    """In 95 of 100 draws or so: normal numbers that are one apart have an area of 0.760."""
    rng = np.random.default_rng(1)
    positive = np.arange(150) < 50
    drawn = [auroc(rng.normal(size=150) + positive, positive) for _ in range(300)]
    held = np.mean([area.low < 0.7602 < area.high for area in drawn])
    assert 0.91 < held < 0.99


def test_the_interval_of_few():
    """By the published formula, on the scale of logits; of ten it holds nearly as often."""
    rng = np.random.default_rng(3)
    positive = np.arange(110) < 10
    numbers = rng.normal(size=110) + 1.5 * positive
    first, second = numbers[positive], numbers[~positive]
    order = (first[:, None] > second).astype(float)
    variance = order.mean(1).var(ddof=1) / 10 + order.mean(0).var(ddof=1) / 100
    area, low, high = auroc(numbers, positive)
    half = 1.959964 * np.sqrt(variance) / (area * (1 - area))
    assert logit([low, high]) == pytest.approx(logit(area) + half * np.array([-1, 1]))
    drawn = [auroc(rng.normal(size=110) + 1.5 * positive, positive) for _ in range(400)]
    truth = norm.cdf(1.5 / np.sqrt(2))
    assert np.mean([area.low < truth < area.high for area in drawn if area.area < 1]) > 0.87


def test_a_mean_over_steps_and_its_interval():
    """Steps weigh by their first kind; an interval holds though the steps share their noise."""
    rng = np.random.default_rng(2)

    def draw():
        positive = rng.random((150, 6)) < (0.02, 0.1, 0.2, 0.3, 0.4, 0.98)
        return rng.normal(size=(150, 1)) + 0.3 * rng.normal(size=(150, 6)) + positive, positive

    numbers, positive = draw()
    each, weights = [], []
    for step, first in zip(numbers.T, positive.T, strict=True):
        if first.sum() >= 2 and (~first).sum() >= FEWEST:
            pairs = first.sum() * (~first).sum()
            each.append(mannwhitneyu(step[first], step[~first]).statistic / pairs)
            weights.append(first.sum())
    assert 1 < weights[0] < FEWEST
    assert auroc(numbers, positive).area == pytest.approx(np.average(each, weights=weights))
    drawn = [auroc(*draw()) for _ in range(300)]
    truth = np.mean([area.area for area in drawn])
    held = np.mean([area.low < truth < area.high for area in drawn])
    assert 0.91 < held < 0.99


def test_what_cannot_be_told():
    positive = np.arange(40) < 20
    assert auroc(np.zeros(40), positive).area == 0.5
    told = auroc(positive.astype(float), positive)
    assert told.area == 1
    assert np.isnan(told[1:]).all()
    few = np.arange(40) < FEWEST - 1
    assert np.isnan(auroc(np.arange(40.0), few)).all()
    halves = np.where(np.arange(40) % 2, np.nan, np.arange(40.0))
    assert auroc(halves, positive) == auroc(np.arange(1.0, 40, 2), np.arange(20) < 10)


def test_a_run_whose_entropy_tells_harm(tmp_path):
    folder = write_run(tmp_path / "run")
    with np.load(folder / "eval/steps.npz") as file:
        values = dict(file)
    rng = np.random.default_rng(0)
    shape = values["kl"].shape
    harms = rng.random(shape) < 0.3
    values["log_prob_gain"] = np.where(harms, -0.1, 0.1).astype(np.float32)
    values["entropy"] = np.roll(harms, -1, axis=1) + 0.9 * rng.random(shape)
    values["overshoot"] = harms & (rng.random(shape) < 0.5)
    values["advantage_margin"] = ~np.roll(harms, -1, axis=1) + 2 * rng.random(shape)
    np.savez(folder / "eval/steps.npz", **values)
    before, after = (harm.areas(Run(folder), ahead) for ahead in (1, 0))
    assert [each.area for each in before["entropy"]] == [1.0] * (shape[1] - 1)
    assert all(0.6 < each.area < 1 for each in before["advantage_margin"])
    assert "advantage_margin" not in after
    assert all(0.3 < each.area < 0.7 for each in after["entropy"])
    sentence = harm.describe_harm(Run(folder))
    assert "entropy after it 1.00, advantage margin (needs the label) 0." in sentence
    overshoots = harm.mean_areas(Run(folder), "overshoots")["entropy"].area
    assert 0.85 < overshoots < 0.97  # it tells harm, and half of that is an overshoot
    assert f"Whether it overshoots: entropy after it {overshoots:.2f}" in sentence


def test_a_run_without_harm_says_so(tmp_path):
    folder = write_run(tmp_path / "run")
    with np.load(folder / "eval/steps.npz") as file:
        values = dict(file)
    values["log_prob_gain"] = np.abs(values["log_prob_gain"])
    np.savez(folder / "eval/steps.npz", **values)
    assert harm.describe_harm(Run(folder)) == ("Too few steps harm a puzzle to say what tells it.")
    harm.draw_harm([Run(folder)])


def test_an_empty_panel_says_so_and_has_the_steps_of_the_others(tmp_path):
    run = Run(write_run(tmp_path / "run"))
    figure = KINDS["harm"].figure([run])
    harms, overshoots, after = figure.axes
    assert harms.get_xlim() == overshoots.get_xlim() == (0.5, 5.5)
    assert after.get_xlim() == (0.5, 6.5)
    assert [text.get_text() for text in overshoots.texts] == [harm.TOO_FEW]
    assert not harms.texts


def test_without_labels_harm_cannot_be_told(tmp_path):
    """The report names it beside the other figures that need labels, and `pir plot` refuses it."""
    run = Run(write_run(tmp_path / "run", labels=False))
    assert KINDS["harm"].missing(run) == KINDS["margins"].missing(run) == ["eval/cells.csv"]
    assert f"{KINDS['harm'].title} (needs labels)" in report(run)
    assert not KINDS["harm"].missing(Run(write_run(tmp_path / "labelled")))
