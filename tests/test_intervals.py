"""Intervals of shares and of means over seeds."""

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from pir.evaluation.intervals import student_interval, wilson_interval


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (37, 50), (900, 1000)])
def test_wilson_interval_solves_its_equation(k, n):
    """The bounds p satisfy (k/n - p)^2 = z^2 p (1 - p) / n."""
    z = 1.959964
    for bound in wilson_interval(k, n):
        if 0 < bound < 1:
            assert (k / n - bound) ** 2 == pytest.approx(z * z * bound * (1 - bound) / n, rel=1e-6)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_against_scipy():
    rng = np.random.default_rng(1)
    for n in rng.integers(1, 5000, 200).tolist():
        k = int(rng.integers(0, n + 1))
        expected = stats.binomtest(k, n).proportion_ci(method="wilson")
        assert wilson_interval(k, n) == pytest.approx(tuple(expected), abs=1e-8)


def finite_sum(angle, freedom):
    """P(|T| <= sqrt(freedom) tan(angle)), Abramowitz and Stegun 26.7.3 and 26.7.4."""
    cosine, odd = math.cos(angle), freedom % 2
    term = total = (cosine if freedom > 1 else 0.0) if odd else 1.0
    for i in range(2 + odd, freedom - 1, 2):
        term *= (i - 1) / i * cosine * cosine
        total += term
    below = math.sin(angle) * total
    return (angle + below) * 2 / math.pi if odd else below


def test_student_against_the_finite_sum():
    rng = np.random.default_rng(2)
    for count in range(2, 60):
        values = rng.normal(rng.normal(), 10 ** rng.uniform(-3, 3), count).tolist()
        low, high = student_interval(values)
        assert (low + high) / 2 == pytest.approx(statistics.fmean(values))
        t = (high - low) / 2 * math.sqrt(count) / statistics.stdev(values)
        angle = math.atan(t / math.sqrt(count - 1))
        assert finite_sum(angle, count - 1) == pytest.approx(0.95, abs=1e-12)
    assert student_interval([0.5, 0.5]) == (0.5, 0.5)


def test_student_covers_as_often_as_it_says():
    """Three seeds suffice, where a bootstrap covers three in four."""
    samples = np.random.default_rng(0).normal(5.0, 2.0, size=(4000, 3))
    covered = [low < 5 < high for low, high in map(student_interval, samples.tolist())]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)
